//! Bodies of web forms, `a=1&b=2`: read strictly, because signatures cover what they say.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::Rejected;

/// The most fields that a form may have: Twilio sends about thirty.
const MOST_FIELDS: usize = 100;

/// A form's fields in the order in which they came; None for a value that is not UTF-8.
pub(super) struct Form<'a>(Vec<(Cow<'a, str>, Option<Cow<'a, str>>)>);

impl<'a> Form<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Names `body` when there are too many fields, or one whose name is not UTF-8.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Rejected> {
        let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        let pairs: Vec<&[u8]> = pairs.take(MOST_FIELDS + 1).collect();
        if pairs.len() > MOST_FIELDS {
            return Err(Rejected::field("body"));
        }
        let read = |pair: &'a [u8]| {
            let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (name, value) = (&pair[..end], pair.get(end + 1..).unwrap_or_default());
            Ok((decode(name).ok_or_else(|| Rejected::field("body"))?, decode(value)))
        };
        Ok(Self(pairs.into_iter().map(read).collect::<Result<_, _>>()?))
    }

    /// The value of a field that may be there once.
    ///
    /// # Errors
    /// Names the field when it is not UTF-8, or there twice: two readers could take two values.
    pub(super) fn optional(&self, name: &str) -> Result<Option<&str>, Rejected> {
        let mut found = self.0.iter().filter(|(field, _)| field == name);
        match (found.next(), found.next()) {
            (Some((_, Some(value))), None) => Ok(Some(value)),
            (None, _) => Ok(None),
            (Some(_), _) => Err(Rejected::field(name)),
        }
    }

    /// The value of a field that must be there once.
    ///
    /// # Errors
    /// Names the field otherwise.
    pub(super) fn required(&self, name: &str) -> Result<&str, Rejected> {
        self.optional(name)?.ok_or_else(|| Rejected::field(name))
    }

    /// Every different pair, sorted by name and then by value; None when one is not UTF-8.
    pub(super) fn sorted(&self) -> Option<Vec<(&str, &str)>> {
        let pairs = self.0.iter().map(|(name, value)| Some((name.as_ref(), value.as_deref()?)));
        let mut pairs: Vec<_> = pairs.collect::<Option<_>>()?;
        pairs.sort_unstable();
        pairs.dedup();
        Some(pairs)
    }
}

fn decode(text: &[u8]) -> Option<Cow<'_, str>> {
    if text.contains(&b'+') {
        let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        return percent_decode(&spaced).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()));
    }
    percent_decode(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(body: &[u8], name: &str) -> Result<String, Rejected> {
        Form::read(body)?.required(name).map(str::to_owned)
    }

    #[test]
    fn a_form_is_read_in_utf8() {
        let body =
            "from=%2B8215881234&content=%EC%9D%B8%EC%A6%9D%EB%B2%88%ED%98%B8+%5B572913%5D&empty=&bare&&raw=인증 1";
        let form = Form::read(body.as_bytes()).unwrap();
        for (name, value) in
            [("from", "+8215881234"), ("content", "인증번호 [572913]"), ("empty", ""), ("bare", ""), ("raw", "인증 1")]
        {
            assert_eq!(form.required(name), Ok(value));
        }
        assert_eq!(form.optional("none"), Ok(None));
    }

    #[test]
    fn what_cannot_be_read_in_one_way_is_named() {
        assert_eq!(field(b"a=%ff", "a"), Err(Rejected::field("a")));
        assert_eq!(field(b"a=1&a=2", "a"), Err(Rejected::field("a")));
        assert_eq!(field(b"%ff=1", "a"), Err(Rejected::field("body")));
        assert_eq!(field(b"", "a"), Err(Rejected::field("a")));
        assert!(field("a=1&".repeat(MOST_FIELDS).as_bytes(), "b").is_err());
        assert_eq!(field(&b"b&".repeat(MOST_FIELDS + 1), "a"), Err(Rejected::field("body")));
        assert_eq!(Form::read(b"b=2&a=2&a=1&a=2").unwrap().sorted(), Some(vec![("a", "1"), ("a", "2"), ("b", "2")]));
        assert_eq!(Form::read(b"a=%ff").unwrap().sorted(), None);
    }
}

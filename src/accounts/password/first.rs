//! The passwords that anybody would try first. A list, not a rule about digits and signs, which people meet with `Password1!`.

/// Sorted, in lower case; `#` begins the lines that say where it is from.
const LIST: &str = include_str!("../../../data/common-passwords.txt");

/// Whether `password` is in the list, in whatever case.
pub(super) fn is_common(password: &str) -> bool {
    let password = password.to_lowercase();
    // Eleven thousand lines are looked through in less time than a thousandth of the hash takes.
    LIST.lines().filter(|line| !line.starts_with("# ")).any(|line| line == password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_whole() {
        let words: Vec<_> = LIST.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(words.len() > 11_000);
        assert!(words.is_sorted() && words.iter().all(|word| word.len() >= super::super::MIN));
        assert!(is_common("baseball") && is_common("BaseBall") && !is_common("# Passwords"));
    }
}

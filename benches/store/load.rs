//! Clients that change or read records as fast as they are answered, and what came of it.

use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use nightporter::clock::Stopwatch;
use nightporter::http::workers::Workers;
use tokio::runtime::Handle;

/// Turns of each kind.
pub(crate) const ROUNDS: usize = 5;
/// What a session holds in the stories, in bytes.
pub(crate) const SIZE: usize = 600;

/// Whether the part of that name is to be run: all are, unless the command line names some.
#[allow(dead_code, reason = "each bench uses its part of it")]
pub(crate) fn wanted(part: &str) -> bool {
    // cargo adds a flag of its own.
    let mut named = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|word| word == part)
}

/// What one turn came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// What this process took of the processors for one of them.
    #[allow(dead_code, reason = "each bench uses its part of it")]
    pub(crate) cpu: Duration,
}

/// Someone who makes one change or one reading after the other.
pub(crate) trait Client: Send + 'static {
    /// Does it once, until it has succeeded.
    fn act(&mut self) -> impl Future<Output = ()> + Send;
}

/// Lets every client act for `span`, on the threads of `workers` in turn or else where this runs; each returns for the next turn.
pub(crate) async fn turn<C: Client>(clients: Vec<C>, span: Duration, workers: Option<&Workers>) -> (Turn, Vec<C>) {
    let (watch, before, here) = (Stopwatch::start(), cpu(), Handle::current());
    let tasks = clients.into_iter().map(|mut client| {
        workers.map_or(&here, Workers::next).spawn(async move {
            let (all, mut times) = (Stopwatch::start(), Vec::new());
            while all.elapsed() < span {
                let one = Stopwatch::start();
                client.act().await;
                times.push(one.elapsed());
            }
            (client, times)
        })
    });
    let (mut clients, mut times) = (Vec::new(), Vec::new());
    for done in join_all(tasks).await {
        let (client, its) = done.unwrap();
        clients.push(client);
        times.extend(its);
    }
    let (elapsed, cpu) = (watch.elapsed().as_secs_f64(), (cpu() - before) / times.len() as u32);
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    (Turn { per_second: times.len() as f64 / elapsed, p50: at(50), p99: at(99), cpu }, clients)
}

/// What this process has taken of the processors. Counted in hundredths of a second, of which a turn has hundreds.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program, in brackets, is the second field; user and system time are the 14th and 15th, in hundredths.
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    Duration::from_millis(10) * fields.skip(11).take(2).map(|field| field.parse::<u32>().unwrap()).sum()
}

/// One of those that are compared: its clients, and what their turns came to.
pub(crate) struct Side<C> {
    clients: Vec<C>,
    workers: Option<Workers>,
    pub(crate) turns: Vec<Turn>,
}

impl<C: Client> Side<C> {
    pub(crate) fn new(clients: Vec<C>) -> Self {
        Self { clients, workers: None, turns: Vec::new() }
    }

    /// Its clients act on these threads.
    #[allow(dead_code, reason = "each bench uses its part of it")]
    pub(crate) fn on(self, workers: &Workers) -> Self {
        Self { workers: Some(workers.clone()), ..self }
    }

    /// Lets its clients act for `span`. The first turn warms up and does not count.
    pub(crate) async fn turn(&mut self, span: Duration, round: usize) {
        let (turn, clients) = turn(std::mem::take(&mut self.clients), span, self.workers.as_ref()).await;
        self.clients = clients;
        if round > 0 {
            self.turns.push(turn);
        }
    }
}

/// Theirs, ours, theirs, ours, each for `span`. Prints a [`row`]; returns the turns of both.
#[allow(dead_code, reason = "each bench uses its part of it")]
pub(crate) async fn in_turns<A: Client, B: Client>(
    span: Duration,
    what: &str,
    theirs: Vec<A>,
    ours: Vec<B>,
) -> (Vec<Turn>, Vec<Turn>) {
    let (mut theirs, mut ours) = (Side::new(theirs), Side::new(ours));
    for round in 0..=ROUNDS {
        theirs.turn(span, round).await;
        ours.turn(span, round).await;
    }
    row(what, &theirs.turns, &ours.turns);
    (theirs.turns, ours.turns)
}

/// The middle, the least and the greatest.
pub(crate) fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

/// One row: what both do a second, how many times ours is theirs, and the slowest hundredth of each.
pub(crate) fn row(what: &str, theirs: &[Turn], ours: &[Turn]) {
    let middle = |turns: &[Turn], of: &dyn Fn(&Turn) -> f64| spread(turns.iter().map(of).collect()).0;
    let ratios = theirs.iter().zip(ours).map(|(theirs, ours)| ours.per_second / theirs.per_second);
    let (ratio, least, greatest) = spread(ratios.collect());
    let rate = |turn: &Turn| turn.per_second;
    let p50 = |turn: &Turn| turn.p50.as_secs_f64() * 1e3;
    let p99 = |turn: &Turn| turn.p99.as_secs_f64() * 1e3;
    println!(
        "| {what} | {:.0} | {:.0} | {ratio:.2} ({least:.2} to {greatest:.2}) | {:.2} | {:.2} | {:.2} | {:.2} |",
        middle(theirs, &rate),
        middle(ours, &rate),
        middle(theirs, &p50),
        middle(ours, &p50),
        middle(theirs, &p99),
        middle(ours, &p99)
    );
}

/// The head of a table of [`row`]s.
pub(crate) fn head() {
    println!(
        "\n| what | Redis /s | store /s | store:Redis | Redis p50 ms | store p50 ms | Redis p99 ms | store p99 ms |"
    );
    println!("|---|---|---|---|---|---|---|---|");
}

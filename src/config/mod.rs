//! Site and board files to typed settings; every timing inequality is checked here.
//!
//! ```text
//! text -> toml tree -> reader (keys.rs says what is known) -> Site, Board -> Settings of each room
//! ```

pub mod board;
pub mod digest;
pub mod key_file;
pub mod keys;
pub mod problem;
mod reader;
pub mod site;
mod site_file;
mod syntax;
pub mod timing;
pub mod value;

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use board::Board;
use key_file::PairKey;
use problem::Problem;
use site::Site;
use syntax::Readable;
use timing::{Firing, Plan};

/// A file of this size is no configuration.
const SIZE_LIMIT: u64 = 1 << 20;

/// Both files, read and found right.
#[derive(Clone, Debug)]
pub struct Config {
    /// The site file.
    pub site: Site,
    /// The board file.
    pub board: Board,
    /// The pair's secret.
    pub key: PairKey,
    /// What all times are derived from; its inequalities hold.
    pub plan: Plan,
    /// Digest of what both boxes must share.
    pub digest: u64,
}

/// Reads both files and the key that the site file names.
///
/// # Errors
///
/// Everything that is wrong with them, at once, in the order of the files.
pub fn load(site: &Path, board: &Path) -> Result<Config, Vec<Problem>> {
    let (parsed, site_text, mut problems) = read(site, board);
    let key = key_of(&parsed.site, &site.display().to_string(), &site_text, &mut problems);
    match key {
        Some(key) if problems.is_empty() => {
            let digest = digest::of_site(&parsed.site);
            Ok(Config { site: parsed.site, board: parsed.board, key, plan: parsed.plan, digest })
        }
        _ => Err(problems),
    }
}

/// What is wrong with both files for an appliance: its key is not on this machine, and must be where its boot puts it.
#[must_use]
pub fn problems_on_appliance(site: &Path, board: &Path) -> Vec<Problem> {
    let (parsed, site_text, mut problems) = read(site, board);
    let key = &parsed.site.pair.key_file;
    if !key.as_os_str().is_empty() && key != Path::new(key_file::ON_APPLIANCE) {
        let what = format!("{} is on no appliance", key.display());
        let allowed = format!("allowed: {}, which is the key on the state partition", key_file::ON_APPLIANCE);
        problems.push(key_problem(&site.display().to_string(), &site_text, what, allowed));
    }
    problems
}

/// Both files, the text of the site file, and what is wrong with them.
fn read(site: &Path, board: &Path) -> (Parsed, String, Vec<Problem>) {
    let (site_name, board_name) = (site.display().to_string(), board.display().to_string());
    let (site_text, board_text) = (read_text(site, &site_name), read_text(board, &board_name));
    let readable = |text: &Result<String, Problem>| text.as_deref().map_or_else(|_| Readable::unread(), Readable::new);
    let (parsed, of_site, of_board) =
        parse_readable((&site_name, &readable(&site_text)), (&board_name, &readable(&board_text)));
    let mut problems: Vec<Problem> = board_text.err().into_iter().chain(of_board).collect();
    problems.extend(site_text.as_ref().err().cloned().into_iter().chain(of_site));
    (parsed, site_text.unwrap_or_default(), problems)
}

/// What the texts say, without the key. To be used only if there are no problems.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The site file.
    pub site: Site,
    /// The board file.
    pub board: Board,
    /// What times are derived from.
    pub plan: Plan,
}

/// Parses both texts, each given with the name of its file. Pure.
#[must_use]
pub fn parse(site: (&str, &str), board: (&str, &str)) -> (Parsed, Vec<Problem>) {
    let (site_text, board_text) = (Readable::new(site.1), Readable::new(board.1));
    let (parsed, of_site, mut problems) = parse_readable((site.0, &site_text), (board.0, &board_text));
    problems.extend(of_site);
    (parsed, problems)
}

/// What can be read of both, and what is wrong with the site file and with the board file.
fn parse_readable(site: (&str, &Readable), board: (&str, &Readable)) -> (Parsed, Vec<Problem>, Vec<Problem>) {
    let (board_source, board_tree) = reader::Source::parse(board.0, board.1);
    let board = board::read(&board_source, &board_tree);
    let (site_source, site_tree) = reader::Source::parse(site.0, site.1);
    site_source.rests_on(&board_source);
    let site = site_file::read(&site_source, &site_tree, &board);
    let plan = plan(&site, &board);
    (Parsed { site, board, plan }, site_source.into_problems(), board_source.into_problems())
}

/// Parses a board's text alone, given with the name of its file. Pure. To be used only if there are no problems.
#[must_use]
pub fn parse_board(name: &str, text: &str) -> (Board, Vec<Problem>) {
    let text = Readable::new(text);
    let (source, tree) = reader::Source::parse(name, &text);
    let board = board::read(&source, &tree);
    (board, source.into_problems())
}

/// What times are derived from.
#[must_use]
pub fn plan(site: &Site, board: &Board) -> Plan {
    Plan {
        timing: site.timing,
        boot_wait: site.pair.boot_wait,
        watchdog: board.watchdog.as_ref().map(|dog| Firing {
            timeout: site.watchdog.timeout,
            percent: dog.firing_percent,
            reset_time: dog.reset_time,
        }),
        longest_watchdog_bound: site.watchdog.longest_bound,
        null_modem_baud: board.null_modem.as_ref().map(|port| port.baud),
    }
}

fn read_text(path: &Path, name: &str) -> Result<String, Problem> {
    let problem = |what: String, allowed: &str| Problem {
        file: name.to_owned(),
        line: 0,
        key: String::new(),
        what,
        allowed: allowed.to_owned(),
        stands_for: 1,
    };
    let cannot = |error: std::io::Error| {
        problem(format!("cannot be read ({error})"), "allowed: a file that is there and may be read")
    };
    // Neither a device that never ends nor a pipe that nobody writes to: opening one must not wait either.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(problem("is no regular file".to_owned(), "allowed: a file of at most 1 MiB"));
    }
    let mut bytes = Vec::new();
    file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err(problem("is too long".to_owned(), "allowed: a file of at most 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Problem { line, ..problem("is not valid UTF-8".into(), "allowed: UTF-8 text, as TOML demands") }
    })
}

fn key_of(site: &Site, name: &str, text: &str, problems: &mut Vec<Problem>) -> Option<PairKey> {
    let path = &site.pair.key_file;
    if path.as_os_str().is_empty() {
        return None;
    }
    key_file::load(path)
        .map_err(|what| {
            let what = format!("{} {what}", path.display());
            let allowed = "allowed: a file of mode 0600 that belongs to root".to_owned();
            problems.push(key_problem(name, text, what, allowed));
        })
        .ok()
}

fn key_problem(site: &str, text: &str, what: String, allowed: String) -> Problem {
    let line = 1 + text.lines().position(|line| line.trim_start().starts_with("key-file")).unwrap_or(0);
    Problem { file: site.to_owned(), line, key: "pair.key-file".to_owned(), what, allowed, stands_for: 1 }
}

//! What may be written of options and argh does not know.

use std::path::PathBuf;

/// The words up to a `--`, `--option=value` made two, and without `--socket PATH`, which argh knows before the command only.
///
/// # Errors
///
/// What is wrong with that path.
pub(super) fn lift_socket<'w>(arguments: &[&'w str]) -> Result<(Option<PathBuf>, Vec<&'w str>), &'static str> {
    let end = arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len());
    let (options, verbatim) = arguments.split_at(end);
    let (mut socket, mut words) = (None, Vec::new());
    let mut rest = options.iter().flat_map(|word| in_two(word));
    while let Some(word) = rest.next() {
        if word != "--socket" {
            words.push(word);
            continue;
        }
        let path = rest.next().filter(|path| !path.is_empty()).ok_or("--socket needs a path")?;
        if socket.replace(PathBuf::from(path)).is_some() {
            return Err("--socket is given twice");
        }
    }
    words.extend(verbatim);
    Ok((socket, words))
}

/// `--option=value` as option and value; any other word as it is.
fn in_two(word: &str) -> impl Iterator<Item = &str> {
    let (name, value) = match word.split_once('=').filter(|(option, _)| option.starts_with("--")) {
        Some((option, value)) => (option, Some(value)),
        None => (word, None),
    };
    [name].into_iter().chain(value)
}

//! The JSON of the status, read from its sources: every field with its kind, its unit, what null means, and every word.
//! serde writes what the types say, so whatever stands there is what a program gets.

use std::fmt::Write;

use super::messages::{cell, path};

/// Where the types are.
const SOURCES: [&str; 5] = [
    "src/console/status.rs",
    "src/console/status/fence.rs",
    "src/console/status/handover.rs",
    "src/console/status/tree.rs",
    "src/mirror/control.rs",
];

/// A struct or an enum of the sources.
struct Type {
    name: String,
    /// Variants are written in kebab case, and in lower case otherwise.
    kebab: bool,
    members: Vec<Member>,
}

/// A field of a struct, or a variant of an enum.
struct Member {
    name: String,
    /// A field's type.
    of: Option<String>,
    meaning: String,
}

fn types() -> Vec<Type> {
    let mut types: Vec<Type> = Vec::new();
    for file in SOURCES {
        let source = std::fs::read_to_string(path(file)).unwrap();
        let (mut inside, mut kebab, mut meaning) = (false, false, String::new());
        for line in source.lines() {
            let text = line.trim();
            if let Some(doc) = text.strip_prefix("/// ") {
                meaning += if meaning.is_empty() { "" } else { " " };
                meaning += doc;
                continue;
            }
            if line.starts_with("#[serde(") {
                kebab = line.contains("kebab-case");
            }
            if text.starts_with("#[") {
                continue;
            }
            let head = line.strip_prefix("pub struct ").or(line.strip_prefix("pub enum "));
            if let Some(name) = head.and_then(|head| head.strip_suffix(" {")) {
                inside = true;
                types.push(Type { name: name.to_owned(), kebab: std::mem::take(&mut kebab), members: Vec::new() });
            } else if line == "}" {
                inside = false;
            } else if let Some(text) = text.strip_suffix(',').filter(|_| inside) {
                let (name, of) = match text.strip_prefix("pub ").and_then(|field| field.split_once(": ")) {
                    Some((name, of)) => (name, Some(of.to_owned())),
                    None => (text, None),
                };
                let member = Member { name: name.to_owned(), of, meaning: meaning.clone() };
                types.last_mut().expect("begun").members.push(member);
            }
            meaning.clear();
        }
    }
    types
}

/// A type's name inside `outer<...>`.
fn inner<'t>(of: &'t str, outer: &str) -> Option<&'t str> {
    of.strip_prefix(outer)?.strip_prefix('<')?.strip_suffix('>')
}

/// The word that serde makes of a variant.
fn word(variant: &str, kebab: bool) -> String {
    let mut word = String::new();
    for character in variant.chars() {
        if kebab && character.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.extend(character.to_lowercase());
    }
    word
}

/// The unit of a number by the end of its name.
fn unit(name: &str) -> &'static str {
    match name {
        _ if name.ends_with("_ms") || name.ends_with("_ms_ago") => ", ms",
        _ if name.ends_with("_us") || name == "us" => ", us",
        _ if name.starts_with("bytes") => ", bytes",
        _ => "",
    }
}

/// Rows of a struct's fields, each named by the way to it.
fn rows(types: &[Type], name: &str, before: &str, fields: &mut String, words: &mut String) {
    let find = |name: &str| types.iter().find(|known| known.name == name);
    for member in &find(name).expect("a struct of the sources").members {
        let of = member.of.as_deref().expect("a field");
        let nullable = inner(of, "Option");
        let element = inner(nullable.unwrap_or(of), "Vec");
        let plain = element.unwrap_or(nullable.unwrap_or(of));
        let place = format!("{before}{}", member.name);
        let kind = match (element, plain, find(plain)) {
            (Some("String"), ..) => "list of texts".to_owned(),
            (Some(_), ..) => "list".to_owned(),
            (None, "String", _) => "text".to_owned(),
            (None, "bool", _) => "true or false".to_owned(),
            (None, "u64" | "u32", _) => format!("number{}", unit(&member.name)),
            (None, _, Some(known)) if known.members.iter().all(|member| member.of.is_none()) => "word".to_owned(),
            (None, _, Some(_)) => "object".to_owned(),
            (None, other, None) => panic!("{place}: a program cannot know what {other} is"),
        };
        let or_null = if nullable.is_some() { " or null" } else { "" };
        let told = member.meaning.contains("`null`");
        assert_eq!(told, nullable.is_some(), "{place}: what does null mean there? \"{}\"", member.meaning);
        let _ = writeln!(fields, "| `{place}` | {kind}{or_null} | {} |", cell(&member.meaning));
        let below = if element.is_some() { format!("{place}[].") } else { format!("{place}.") };
        match find(plain) {
            Some(known) if known.members.iter().all(|member| member.of.is_none()) => {
                for variant in &known.members {
                    let word = word(&variant.name, known.kebab);
                    let _ = writeln!(words, "| `{place}` | `{word}` | {} |", cell(&variant.meaning));
                }
            }
            Some(_) => rows(types, plain, &below, fields, words),
            None => {}
        }
    }
}

/// The table of the fields, and the one of their words.
pub fn tables() -> String {
    let (mut fields, mut words) = (String::new(), String::new());
    rows(&types(), "Status", "", &mut fields, &mut words);
    format!(
        "\n| field | kind | meaning |\n| --- | --- | --- |\n{fields}\n| field | word | meaning |\n| --- | --- | --- |\n{words}\n"
    )
}

/// What a status of these types has is what the table tells.
#[test]
fn the_tables_name_the_fields_that_a_program_gets() {
    fn places(value: &serde_json::Value, before: &str, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    let place = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
                    found.push(place.clone());
                    places(value, &place, found);
                }
            }
            serde_json::Value::Array(list) => {
                list.iter().for_each(|value| places(value, &format!("{before}[]"), found));
            }
            _ => {}
        }
    }
    let tables = tables();
    for (name, status) in super::states::all() {
        let mut found = Vec::new();
        places(&serde_json::to_value(&status).unwrap(), "", &mut found);
        assert!(found.len() > 80, "{name}");
        for place in found {
            assert!(tables.contains(&format!("\n| `{place}` | ")), "{name}: {place} is not told");
        }
    }
}

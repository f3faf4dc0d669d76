//! How much of what is logged: a level for all, and other levels for some modules.

use core::str::FromStr;

use heapless::Vec;
use log::LevelFilter;

/// Modules that may have a level of their own.
const MODULES: usize = 8;

/// Levels by module, as in `info,link=debug,twobox::node=trace`.
#[derive(Clone, Debug)]
pub struct Levels {
    others: LevelFilter,
    modules: Vec<(heapless::String<48>, LevelFilter), MODULES>,
}

impl Default for Levels {
    fn default() -> Self {
        Self { others: LevelFilter::Info, modules: Vec::new() }
    }
}

impl Levels {
    /// From `[log]` of the site file; the empty name stands for all others. More than there is room for are left
    /// out.
    #[must_use]
    pub fn of_modules(modules: &[(String, LevelFilter)]) -> Self {
        let mut levels = Levels::default();
        for (module, level) in modules {
            match module.as_str().try_into() {
                _ if module.is_empty() => levels.others = *level,
                Ok(name) => drop(levels.modules.push((name, *level))),
                Err(_) => {}
            }
        }
        levels
    }

    /// The level of `target`: that of the longest module named that it lies in.
    #[must_use]
    pub fn of(&self, target: &str) -> LevelFilter {
        let own = target.strip_prefix("twobox::").unwrap_or(target);
        let inside =
            |module: &str| own.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        let named = self.modules.iter().filter(|(module, _)| inside(module)).max_by_key(|(module, _)| module.len());
        named.map_or(self.others, |(_, level)| *level)
    }

    /// The most talkative level of all.
    #[must_use]
    pub fn most(&self) -> LevelFilter {
        self.modules.iter().map(|(_, level)| *level).fold(self.others, Ord::max)
    }
}

impl FromStr for Levels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = |word: &str| {
            word.parse::<LevelFilter>()
                .map_err(|_| format!("`{word}` is no log level; allowed: off, error, warn, info, debug, trace"))
        };
        let mut levels = Levels::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                None => levels.others = level(word)?,
                Some((module, word)) => {
                    let own = module.strip_prefix("twobox::").unwrap_or(module);
                    let name = own.try_into().map_err(|_| format!("`{module}` is too long for a module's name"))?;
                    let full = |_| format!("log levels for more than {MODULES} modules");
                    levels.modules.push((name, level(word)?)).map_err(full)?;
                }
            }
        }
        Ok(levels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_module_named_rules() {
        let levels: Levels = "warn,link=debug,twobox::link::serial=off".parse().unwrap();
        assert_eq!(levels.of("twobox::node"), LevelFilter::Warn);
        assert_eq!(levels.of("twobox::link::ethernet"), LevelFilter::Debug);
        assert_eq!(levels.of("twobox::link::serial"), LevelFilter::Off);
        assert_eq!(levels.of("twobox::linked"), LevelFilter::Warn);
        assert_eq!(levels.most(), LevelFilter::Debug);
    }

    #[test]
    fn a_wrong_word_is_told_with_what_is_allowed() {
        assert!("loud".parse::<Levels>().unwrap_err().contains("allowed: off"));
        assert!("link=loud".parse::<Levels>().is_err());
    }
}

//! Options of `cargo x` commands: flags and `--name VALUE`, nothing more.

use crate::sh::Res;

/// The words after the command's name. Each option that is looked up is taken out; what is left is an error.
pub(crate) struct Args {
    words: Vec<String>,
}

impl Args {
    pub(crate) fn new(words: Vec<String>) -> Self {
        Self { words }
    }

    /// Whether `name` was given.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() != before
    }

    /// The value of `name VALUE` or `name=VALUE`, if given.
    ///
    /// # Errors
    /// The option is the last word, so that its value is missing.
    pub(crate) fn value(&mut self, name: &str) -> Res<Option<String>> {
        let joined = format!("{name}=");
        let Some(at) = self.words.iter().position(|word| word == name || word.starts_with(&joined)) else {
            return Ok(None);
        };
        let word = self.words.remove(at);
        if let Some(value) = word.strip_prefix(&joined) {
            return Ok(Some(value.to_owned()));
        }
        if at == self.words.len() {
            return Err(format!("{name} needs a value: {name} VALUE"));
        }
        Ok(Some(self.words.remove(at)))
    }

    /// The number given for `name`, or `default`.
    ///
    /// # Errors
    /// The value is missing or not a number.
    pub(crate) fn number(&mut self, name: &str, default: u64) -> Res<u64> {
        match self.value(name)? {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{name} {text}: not a whole number")),
        }
    }

    /// Answers `--help` with `usage`; true when it did and the command has nothing more to do.
    pub(crate) fn help(&mut self, usage: &str) -> bool {
        let asked = self.flag("--help") | self.flag("-h");
        if asked {
            println!("{}", usage.trim_end());
        }
        asked
    }

    /// [`Self::help`] for a command whose words go to another program: what stands after `--` is that one's.
    pub(crate) fn help_before_dashes(&mut self, usage: &str) -> bool {
        match self.words.iter().position(|word| word == "--") {
            Some(at) => {
                let theirs = self.words.split_off(at + 1);
                self.words.pop();
                let asked = self.help(usage);
                self.words.extend(theirs);
                asked
            }
            None => self.help(usage),
        }
    }

    /// What nothing has asked for, for another program's command line.
    pub(crate) fn rest(self) -> Vec<String> {
        self.words
    }

    /// Ends the reading of options.
    ///
    /// # Errors
    /// A word is left: a misspelt option is never ignored.
    pub(crate) fn finish(self) -> Res {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(format!("{word:?} is not an option of this command; --help lists them")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Args {
        Args::new(text.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn flags_and_values_are_taken_and_the_rest_is_refused() {
        let mut given = args("--fresh --job=a --timeout 30 --oops");
        assert!(given.flag("--fresh") && !given.flag("--shell"));
        assert_eq!(given.value("--job").unwrap().as_deref(), Some("a"));
        assert_eq!(given.number("--timeout", 1).unwrap(), 30);
        assert_eq!(given.number("--memory", 1024).unwrap(), 1024);
        assert!(given.finish().unwrap_err().contains("--oops"));
    }

    #[test]
    fn a_missing_value_is_an_error_and_not_the_next_option() {
        assert!(args("--job").value("--job").is_err());
        assert!(args("--timeout soon").number("--timeout", 1).is_err());
    }
}

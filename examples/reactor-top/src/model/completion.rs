// SPDX-License-Identifier: MIT

//! What Tab may put at the end of a line.

use super::{
    command_line::OWN,
    schema::{Command, Schema},
};

/// The words that may stand at the end of a text, and where in it they begin (bytes).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Candidates {
    pub start: usize,
    pub words: Vec<String>,
}

impl Candidates {
    /// For the text in front of the cursor.
    pub fn of(text: &str, schema: Option<&Schema>) -> Self {
        let start = text.len() - text.trim_start().len();
        let Some(space) = text[start..].find(char::is_whitespace) else {
            return Self::new(text, start, names(schema));
        };
        let name = &text[start..start + space];
        let Some(command) = schema.and_then(|schema| schema.command(name)) else {
            return Self::default();
        };
        let rest = &text[start + space..];
        let start = text.len()
            - rest
                .split(char::is_whitespace)
                .next_back()
                .map_or(0, str::len);
        Self::of_argument(text, start, rest, command)
    }

    fn of_argument(text: &str, start: usize, rest: &str, command: &Command) -> Self {
        let word = &text[start..];
        if let Some((name, _)) = word.split_once('=') {
            let parameter = command.parameter(name);
            let choices = parameter.map_or(&[][..], |parameter| &parameter.choices);
            return Self::new(text, start + name.len() + 1, choices.to_vec());
        }
        let is_first = rest.trim_start() == word;
        let mut words = Vec::new();
        // Words of a text are not completed as parameters' names.
        let assigned = |word: &str| {
            let name = word.split_once('=').map(|(name, _)| name);
            name.is_some_and(|name| command.parameter(name).is_some())
        };
        if is_first || rest.split_whitespace().next().is_some_and(assigned) {
            let free = |name: &str| !rest.contains(&format!(" {name}="));
            let names = command.parameters.iter().map(|entry| &entry.name);
            words.extend(
                names
                    .filter(|name| free(name))
                    .map(|name| format!("{name}=")),
            );
        }
        if let (true, Some(parameter)) = (is_first, command.main_parameter()) {
            words.extend(parameter.choices.iter().cloned());
        }
        Self::new(text, start, words)
    }

    fn new(text: &str, start: usize, mut words: Vec<String>) -> Self {
        words.retain(|word| word.starts_with(&text[start..]));
        Self { start, words }
    }

    /// What all of them begin with.
    pub fn common_prefix(&self) -> String {
        let mut words = self.words.iter();
        let mut common = words.next().cloned().unwrap_or_default();
        for word in words {
            let same = common.chars().zip(word.chars()).take_while(|(a, b)| a == b);
            common = same.map(|(a, _)| a).collect();
        }
        common
    }
}

/// All commands; one that takes nothing ends there, any other with a space.
fn names(schema: Option<&Schema>) -> Vec<String> {
    let commands = schema.map_or(&[][..], |schema| &schema.commands);
    let model = commands.iter().map(|command| {
        let space = if command.parameters.is_empty() {
            ""
        } else {
            " "
        };
        format!("{}{space}", command.name)
    });
    let own = OWN.iter().map(|(name, _)| (*name).to_owned());
    model.chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::schema::tests::playground, *};

    fn words(text: &str) -> Vec<String> {
        Candidates::of(text, Some(&playground())).words
    }

    #[test]
    fn names_parameters_and_choices_are_completed() {
        assert_eq!(words("set_p"), ["set_paused ", "set_prompt "]);
        assert_eq!(words(":qu"), [":quit"]);
        assert_eq!(words("fa"), ["fail"]);
        assert_eq!(words("set_resolution "), ["height=", "width="]);
        assert_eq!(words("set_resolution width=3 "), ["height="]);
        assert_eq!(words("set_paused paused="), ["true", "false"]);
        assert_eq!(words("set_paused t"), ["true"]);
        assert_eq!(words("set_style style=i"), ["ink"]);
        assert_eq!(words("set_prompt a forest p"), [""; 0]);
        assert_eq!(words("unknown x"), [""; 0]);
        assert!(words("").len() > 7);
    }

    #[test]
    fn prefix_is_common_to_all() {
        let candidates = Candidates::of("  se", Some(&playground()));
        assert_eq!(
            (candidates.start, &*candidates.common_prefix()),
            (2, "set_")
        );
        assert_eq!(Candidates::of("é", None).common_prefix(), "");
        assert_eq!(Candidates::of(":qui", None).common_prefix(), ":quit");
    }
}

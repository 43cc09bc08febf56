//! What Python prints for dictionaries of numbers, texts and NumPy arrays, as far as results files need it.

/// Deepest nesting that is read.
const MAX_DEPTH: u32 = 32;

/// A value as Python prints it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    /// `None`.
    None,
    /// `True` or `False`, also of NumPy.
    Bool(bool),
    /// A number; may be infinite or not a number.
    Number(f64),
    /// A text.
    Text(String),
    /// A list, a tuple or an array.
    List(Vec<Literal>),
    /// A dictionary with texts as keys.
    Dictionary(Vec<(String, Literal)>),
    /// `...`, where NumPy left out the middle of a long array.
    Omitted,
}

impl Literal {
    /// The value at the beginning of `text`; what comes after it is not looked at. The error says where it goes wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { text, at: 0 };
        parser.value(0)
    }

    /// The value of a key of a dictionary.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Dictionary(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Byte at which to go on.
    at: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: u32) -> Result<Literal, String> {
        if depth > MAX_DEPTH {
            return Err(self.expected("less nesting"));
        }
        match self.peek() {
            Some('{') => self.dictionary(depth),
            Some('[') => self.sequence(']', depth),
            Some('(') => self.sequence(')', depth),
            Some('\'' | '"') => self.text().map(Literal::Text),
            _ => self.word(depth),
        }
    }

    fn dictionary(&mut self, depth: u32) -> Result<Literal, String> {
        let mut entries = Vec::new();
        self.eat('{');
        while !self.eat('}') {
            self.peek();
            let key = self.text()?;
            if !self.eat(':') {
                return Err(self.expected("`:`"));
            }
            entries.push((key, self.value(depth + 1)?));
            self.separator('}')?;
        }
        Ok(Literal::Dictionary(entries))
    }

    fn sequence(&mut self, end: char, depth: u32) -> Result<Literal, String> {
        let mut items = Vec::new();
        self.at += 1;
        while !self.eat(end) {
            items.push(self.value(depth + 1)?);
            self.separator(end)?;
        }
        Ok(Literal::List(items))
    }

    /// A comma, or nothing before `end`.
    fn separator(&mut self, end: char) -> Result<(), String> {
        if self.eat(',') || self.peek() == Some(end) {
            return Ok(());
        }
        Err(self.expected("`,`"))
    }

    /// A quoted text with the escapes of Python's `repr` that matter here.
    fn text(&mut self) -> Result<String, String> {
        let rest = self.rest();
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let quote = quote.ok_or_else(|| self.expected("a quoted text"))?;
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((offset, c)) = chars.next() {
            match c {
                '\\' => text.extend(chars.next().map(|(_, c)| if c == 'n' { '\n' } else { c })),
                c if c == quote => {
                    self.at += offset + 1;
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(self.expected("the end of a text"))
    }

    /// A number, a name, or what a call such as `array(..)` or `np.float64(..)` wraps.
    fn word(&mut self, depth: u32) -> Result<Literal, String> {
        let rest = self.rest();
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
        let length = rest.find(|c| !part(c)).unwrap_or(rest.len());
        let word = &rest[..length];
        let name = word.strip_prefix("np.").or(word.strip_prefix("numpy."));
        let name = name.unwrap_or(word);
        let literal = match name {
            "None" => Literal::None,
            "True" | "True_" => Literal::Bool(true),
            "False" | "False_" => Literal::Bool(false),
            "..." => Literal::Omitted,
            name if rest[length..].starts_with('(') && !name.is_empty() => {
                self.at += length;
                return self.call(depth);
            }
            number => match number.parse() {
                Ok(number) => Literal::Number(number),
                Err(_) => return Err(self.expected("a value")),
            },
        };
        self.at += length;
        Ok(literal)
    }

    /// The first argument of a call; the others, such as `dtype=bool` or `shape=(2000,)`, say nothing about its value.
    fn call(&mut self, depth: u32) -> Result<Literal, String> {
        self.at += 1;
        let value = self.value(depth + 1)?;
        let mut open = 1_u32;
        let end = self.rest().find(|c| {
            match c {
                '(' => open += 1,
                ')' => open -= 1,
                _ => (),
            }
            open == 0
        });
        let end = end.ok_or_else(|| self.expected("`)`"))?;
        self.at += end + 1;
        Ok(value)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The next character that is not a space.
    fn peek(&mut self) -> Option<char> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.rest().chars().next()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn expected(&self, what: &str) -> String {
        let line = self.text[..self.at].matches('\n').count() + 1;
        let near: String = self.rest().chars().take(20).collect();
        format!("line {line}: expected {what} at `{}`", near.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_dictionary_of_arrays_is_read_as_python_prints_it() {
        let text = "{'success_rate': np.float64(66.6), 'episode_successes': array([ True, False,\n        True], \
                    dtype=bool),\n 'seeds': None, 'it\\'s': \"a\", 'x': (1, -2.5e-3, inf, [0., 1.]), 'y': {}}\nafter";
        let found = Literal::parse(text).unwrap();
        let list = |values: &[bool]| {
            Literal::List(values.iter().map(|&value| Literal::Bool(value)).collect())
        };
        assert_eq!(found.get("success_rate"), Some(&Literal::Number(66.6)));
        assert_eq!(
            found.get("episode_successes"),
            Some(&list(&[true, false, true]))
        );
        assert_eq!(found.get("seeds"), Some(&Literal::None));
        assert_eq!(found.get("it's"), Some(&Literal::Text("a".into())));
        let numbers = [1.0, -2.5e-3, f64::INFINITY].map(Literal::Number);
        let inner = Literal::List([0.0, 1.0].map(Literal::Number).to_vec());
        assert_eq!(
            found.get("x"),
            Some(&Literal::List([&numbers[..], &[inner]].concat()))
        );
        assert_eq!(found.get("y"), Some(&Literal::Dictionary(Vec::new())));
        assert_eq!(found.get("z"), None);
    }

    #[test]
    fn a_long_array_has_an_omitted_middle() {
        let text = "[array([True, ..., np.False_], shape=(2000,), dtype=object), 1]";
        let found = Literal::parse(text).unwrap();
        let expected = [Literal::Bool(true), Literal::Omitted, Literal::Bool(false)];
        let array = Literal::List(expected.to_vec());
        assert_eq!(found, Literal::List(vec![array, Literal::Number(1.0)]));
    }

    #[test]
    fn what_is_not_a_value_is_refused_where_it_is() {
        for text in [
            "",
            "{",
            "{'a'}",
            "{a: 1}",
            "[1 2]",
            "'open",
            "array(",
            "array([1], f(",
            "exit()",
            "é",
        ] {
            assert!(Literal::parse(text).is_err(), "{text}");
        }
        let error = Literal::parse("{'a': 1,\n 'b': ?}").unwrap_err();
        assert_eq!(error, "line 2: expected a value at `?}`");
        let deep = "[".repeat(100_000);
        assert!(Literal::parse(&deep).unwrap_err().contains("less nesting"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}(),:'\"\\\\a-eéTN0-9. \n_=-]{0,40}") {
            let _ = Literal::parse(&text);
        }
    }
}

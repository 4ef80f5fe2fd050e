//! Reads the fault tags of tests: doc comments that begin with fault numbers and a colon (`/// F12, A19: …`).
//!
//! It scans lines and does not parse Rust: rustfmt puts each attribute, doc comment and `fn` at the start of a line.

/// A fault number as a tag spells it: a letter and digits.
pub type Number = String;

/// A test and the fault numbers in its tag.
#[derive(Debug, PartialEq, Eq)]
pub struct Tagged {
    pub numbers: Vec<Number>,
    pub test: String,
}

/// Returns the tagged tests of one file in order, and a message for each malformed tag.
pub fn scan(source: &str) -> (Vec<Tagged>, Vec<String>) {
    let (mut tagged, mut problems) = (Vec::new(), Vec::new());
    let mut item = Item::default();
    for line in source.lines().map(str::trim) {
        if item.continues(line) {
            continue;
        }
        let Item { doc, is_test, .. } = std::mem::take(&mut item);
        match numbers(&doc) {
            None => {}
            Some(Err(())) => problems.push(format!("this looks like a tag, but is malformed: {doc}")),
            Some(Ok(numbers)) => match name_of_fn(line).filter(|_| is_test) {
                Some(test) => tagged.push(Tagged { numbers, test: test.to_owned() }),
                None => problems.push(format!("this tag is not on a test: {doc}")),
            },
        }
    }
    (tagged, problems)
}

/// The doc comment and the attributes before an item.
#[derive(Default)]
struct Item {
    doc: String,
    is_test: bool,
    in_attribute: bool,
}

impl Item {
    fn continues(&mut self, line: &str) -> bool {
        if self.in_attribute || line.starts_with("#[") {
            self.in_attribute = !line.ends_with(']');
            // `#[test]`, `#[actix_rt::test]`, `#[tokio::test(start_paused = true)]`
            let path = line.trim_start_matches("#[").split(['(', ']']).next().unwrap_or_default();
            self.is_test |= path == "test" || path.ends_with("::test");
        } else if let Some(text) = line.strip_prefix("///") {
            if !self.doc.is_empty() {
                self.doc.push(' ');
            }
            self.doc.push_str(text.trim());
        } else {
            return line.starts_with("//");
        }
        true
    }
}

/// The fault numbers at the start of a doc comment: `None` without numbers, an error if neither a colon nor the end of the
/// comment follows them.
fn numbers(doc: &str) -> Option<Result<Vec<Number>, ()>> {
    number(doc)?;
    let head = doc.split_once(':').map_or_else(|| doc.trim_end_matches('.'), |(head, _)| head);
    Some(head.split(", ").map(|part| number(part).filter(|it| it.len() == part.len()).ok_or(())).collect())
}

/// The fault number at the start of `text`.
fn number(text: &str) -> Option<Number> {
    let digits = match text.bytes().next()? {
        b'P' => 1,
        b'F' | b'A' => 2,
        _ => return None,
    };
    let all_digits =
        text.len() > digits && text.bytes().skip(1).take(digits).all(|byte| byte.is_ascii_digit());
    let ends = !text.as_bytes().get(digits + 1).is_some_and(u8::is_ascii_alphanumeric);
    (all_digits && ends).then(|| text[..=digits].to_owned())
}

fn name_of_fn(line: &str) -> Option<&str> {
    let line = ["pub ", "async "].iter().fold(line, |rest, word| rest.strip_prefix(word).unwrap_or(rest));
    line.strip_prefix("fn ")?.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(source: &str) -> Vec<(String, String)> {
        let (tagged, problems) = scan(source);
        assert_eq!(problems, Vec::<String>::new());
        tagged.into_iter().map(|Tagged { numbers, test }| (numbers.join(" "), test)).collect()
    }

    fn pair(numbers: &str, test: &str) -> (String, String) {
        (numbers.to_owned(), test.to_owned())
    }

    #[test]
    fn a_tag_is_found_before_and_after_attributes() {
        let one = "/// F12, A19: a promise\n/// in two lines: here.\n#[test]\nfn one() {";
        let two = "#[actix_rt::test]\n#[expect(\n  a,\n  reason = \"x\"\n)]\n/// P1: x\nasync fn two<T>() {";
        let three =
            "  /// A48: x\n  // a remark\n  #[tokio::test(start_paused = true)]\n  async fn three() {";
        assert_eq!(claims(one), [pair("F12 A19", "one")]);
        assert_eq!(claims(two), [pair("P1", "two")]);
        assert_eq!(claims(three), [pair("A48", "three")]);
    }

    #[test]
    fn a_tag_may_continue_on_the_next_line() {
        assert_eq!(claims("/// F01, F02,\n/// F03: x\n#[test]\nfn a() {"), [pair("F01 F02 F03", "a")]);
    }

    #[test]
    fn comments_without_leading_numbers_are_not_tags() {
        for text in ["Fast: x", "A token: x", "F1: x", "P12: x", "F123: x", "F12a: x", "x F12: y"] {
            assert_eq!(claims(&format!("/// {text}\n#[test]\nfn a() {{")), [], "{text}");
        }
        assert_eq!(claims("// F12: x\n#[test]\nfn a() {"), []);
    }

    #[test]
    fn a_tag_belongs_to_the_item_directly_below_it() {
        let (tagged, problems) = scan("/// F12: x\nstruct A;\n#[test]\nfn a() {");
        assert_eq!((tagged, problems.len()), (vec![], 1));
        let (tagged, problems) = scan("/// F12: x\nfn a() {");
        assert_eq!((tagged, problems.len()), (vec![], 1));
    }

    #[test]
    fn a_malformed_tag_is_reported() {
        for text in ["F12 x", "F12,A19: x", "F12, and A19: x", "F12 A19: x"] {
            let (tagged, problems) = scan(&format!("/// {text}\n#[test]\nfn a() {{"));
            assert_eq!((tagged, problems.len()), (vec![], 1), "{text}");
        }
    }
}

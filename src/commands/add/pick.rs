//! A numbered list of the found models, from which the user chooses.

use serde_json::Value;

use super::{NamedModel, answer, checked, with_names};
use crate::{discover::FoundModel, exit::Failure, output};

/// Shows the models and asks for numbers.
pub(super) async fn pick(
    offered: Vec<FoundModel>,
    given: Option<String>,
    known: &[Value],
    shown: &str,
) -> Result<Vec<NamedModel>, Failure> {
    let proposed = with_names(&offered, None, known, shown)?;
    let width = offered.len().to_string().len();
    let models: Vec<_> = offered.iter().map(|found| output::printable(&found.model)).collect();
    let longest = models.iter().map(|model| model.chars().count()).max().unwrap_or_default().min(60);
    output::note("Models that run here:");
    for (number, (found, model)) in offered.iter().zip(&models).enumerate() {
        output::note(format!(
            "{:>width$}  {model:<longest$}  {} at {}",
            number + 1,
            found.server.label,
            found.url
        ));
    }
    let picked = loop {
        let text = answer("Which are to be published? (numbers such as 1,3-5, or all; empty: none) ").await?;
        match numbers(&text, offered.len()) {
            Ok(numbers) => break numbers,
            Err(why) => output::note(why),
        }
    };
    let of_number = |number: usize| proposed.get(number).cloned();
    let mut named: Vec<NamedModel> = picked.into_iter().filter_map(of_number).collect();
    if let [only] = named.as_mut_slice() {
        // Only a single model can be renamed here.
        let written = match given {
            Some(name) => name,
            None => answer(&format!("Name at the hub [{}]: ", only.name)).await?,
        };
        if !written.is_empty() {
            (only.name, only.by_user) = (checked(written, known, shown)?, true);
        }
    } else if let (Some(given), Some(first)) = (given, named.first_mut()) {
        (first.name, first.by_user) = (checked(given, known, shown)?, true);
    }
    Ok(named)
}

/// Parses `1,3-5` or `all` into indices of a list of `count`, in order and without duplicates.
fn numbers(text: &str, count: usize) -> Result<Vec<usize>, String> {
    let text = text.replace(" -", "-").replace("- ", "-");
    if text.trim().eq_ignore_ascii_case("all") {
        return Ok((0..count).collect());
    }
    let number = |text: &str| {
        let number = text.trim().parse::<usize>().ok().filter(|number| (1..=count).contains(number));
        number.ok_or_else(|| format!("'{}' is no number from 1 to {count}", output::printable(text.trim())))
    };
    let mut picked = vec![false; count];
    for part in text.split([',', ' ', ';']).filter(|part| !part.trim().is_empty()) {
        let (from, to) = match part.split_once('-') {
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(part)?, number(part)?),
        };
        if from > to {
            return Err(format!("'{part}' runs backwards"));
        }
        picked[from - 1..to].fill(true);
    }
    Ok((0..count).filter(|&at| picked[at]).collect())
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn numbers_ranges_all_and_nothing_are_parsed() {
        let of_seven = |text: &str| numbers(text, 7);
        for (text, expected) in [
            ("", &[][..]),
            ("  ", &[]),
            ("2", &[1]),
            ("7,1", &[0, 6]),
            ("1,3-5", &[0, 2, 3, 4]),
            ("3-5 4-6, 6", &[2, 3, 4, 5]),
            ("ALL", &[0, 1, 2, 3, 4, 5, 6]),
            ("4-4", &[3]),
            ("2 - 3", &[1, 2]),
        ] {
            assert_eq!(of_seven(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["0", "8", "x", "1-9", "5-3", "-2", "2-", "all,1", "1.5"] {
            assert!(of_seven(text).is_err(), "{text}");
        }
    }
}

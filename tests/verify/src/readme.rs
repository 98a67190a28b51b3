//! The README quotes only what the scorecard says.

use crate::Failure;

const BEGIN: &str = "<!-- from docs/RELIABILITY.md -->";
const END: &str = "<!-- end -->";

/// Every number between the marks must stand in the page.
pub fn check(readme: &str, page: &str) -> Result<(), Failure> {
    let quoted = readme
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END))
        .map(|(quoted, _)| quoted)
        .ok_or("README.md: no part that quotes docs/RELIABILITY.md")?;
    let on_page = numbers(page);
    let missing: Vec<String> = numbers(quoted)
        .into_iter()
        .filter(|number| !on_page.contains(number))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("README.md quotes what docs/RELIABILITY.md does not say: {missing:?}").into())
}

/// The numbers in a text; thousands may be set apart by spaces.
fn numbers(text: &str) -> Vec<String> {
    let mut numbers = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let goes_on = chars.peek().is_some_and(char::is_ascii_digit);
        let last = numbers.last_mut().expect("there is always one");
        if char.is_ascii_digit() || (char == '.' && !last.is_empty() && goes_on) {
            last.push(char);
        } else if !(char == ' ' && !last.is_empty() && goes_on) {
            numbers.push(String::new());
        }
    }
    numbers.retain(|number| !number.is_empty());
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_however_it_is_set() {
        assert_eq!(numbers("12 345 points, 98.5 %, 7."), ["12345", "98.5", "7"]);
    }

    #[test]
    fn a_figure_that_the_page_does_not_have_is_refused() {
        let readme = format!("5 {BEGIN} 12 345 points {END} 6");
        assert!(check(&readme, "| 12 345 |").is_ok());
        assert!(check(&readme, "| 12 346 |").is_err());
        assert!(check("no marks", "").is_err());
    }
}

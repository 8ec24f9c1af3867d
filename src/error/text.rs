//! Which characters of a text of any origin can be shown: the one rule for names and messages.
//!
//! Characters that disturb a terminal, or that nobody sees, are never shown as they are. Some
//! that nobody sees belong into words: the joiners of Persian, Sinhala or of emoji families, marks
//! of direction among Hebrew or Arabic, selectors of variants. They are kept in such words, and
//! nowhere else; two texts that differ in them alone have the same [`skeleton`].

/// Makes text of any origin safe for terminals, logs and status files.
///
/// A character that may not be shown becomes a `\u{..}` escape, so that a user id or a file name
/// from inside a blob cannot forge lines, move the cursor or look like another.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for (c, shown) in judged(text) {
        if shown {
            safe.push(c);
        } else {
            safe.extend(c.escape_unicode());
        }
    }
    safe
}

/// Tells of each character of a text whether it may be shown where it stands.
pub fn judged(text: &str) -> impl Iterator<Item = (char, bool)> {
    let chars: Vec<char> = text.chars().collect();
    let rtl = chars.iter().copied().any(is_right_to_left);
    (0..chars.len()).map(move |at| {
        let c = chars[at];
        (c, !is_unseen(c) || belongs(&chars, at, rtl))
    })
}

/// The text without the characters that nobody sees.
pub fn skeleton(text: &str) -> String {
    text.chars().filter(|c| !is_unseen(*c)).collect()
}

/// Tells whether a character may disturb a terminal or hide the true text: control
/// characters, separators of lines, bidirectional controls (UAX #9), all that is invisible by
/// default (`Default_Ignorable_Code_Point`), fillers, tags, and code points that are no characters.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || u32::from(c) & 0xFFFE == 0xFFFE
        || matches!(c,
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FDD0}'..='\u{FDEF}'
            | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
            | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Tells whether an unseen character is part of the spelling of the word in which it stands.
fn belongs(chars: &[char], at: usize, rtl: bool) -> bool {
    let before = at.checked_sub(1).map(|before| chars[before]);
    let after = chars.get(at + 1).copied();
    let Some(before) = before else {
        return false;
    };
    match (chars[at], after) {
        ('\u{200C}', Some(after)) => joins(before) && joins(after),
        ('\u{200D}', Some(after)) => {
            let emoji =
                is_emoji(before) || before == '\u{FE0F}' && at > 1 && is_emoji(chars[at - 2]);
            (joins(before) && joins(after)) || (emoji && is_emoji(after))
        }
        ('\u{200E}' | '\u{200F}', Some(after)) => rtl && !is_unseen(before) && !is_unseen(after),
        ('\u{FE0E}' | '\u{FE0F}', after) => match before {
            '0'..='9' | '#' | '*' => after == Some('\u{20E3}'),
            _ => is_emoji(before),
        },
        ('\u{180B}'..='\u{180F}', _) => matches!(before, '\u{1820}'..='\u{18AA}'),
        ('\u{FE00}'..='\u{FE0D}' | '\u{E0100}'..='\u{E01EF}', _) => is_ideograph(before),
        ('\u{E0020}'..='\u{E007F}', _) => is_flag(chars, at),
        _ => false,
    }
}

/// Letters and marks of scripts in which joiners change the look: from Arabic to Myanmar,
/// Khmer, Mongolian, and their like.
fn joins(c: char) -> bool {
    let script = matches!(c,
        '\u{620}'..='\u{8FF}' | '\u{900}'..='\u{109F}' | '\u{1780}'..='\u{18AF}'
        | '\u{1900}'..='\u{1CFF}' | '\u{A800}'..='\u{ABFF}' | '\u{FB50}'..='\u{FDCF}'
        | '\u{FE70}'..='\u{FEFC}' | '\u{10A00}'..='\u{11FFF}' | '\u{1E900}'..='\u{1E95F}');
    script && !is_unseen(c) && !c.is_numeric()
}

fn is_right_to_left(c: char) -> bool {
    matches!(c,
        '\u{590}'..='\u{8FF}' | '\u{FB1D}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FDFF}'
        | '\u{FE70}'..='\u{FEFC}' | '\u{10800}'..='\u{10FFF}' | '\u{1E800}'..='\u{1EFFF}')
}

fn is_emoji(c: char) -> bool {
    matches!(c,
        '\u{A9}' | '\u{AE}' | '\u{203C}' | '\u{2049}' | '\u{2122}' | '\u{2139}'
        | '\u{2190}'..='\u{2BFF}' | '\u{3030}' | '\u{303D}' | '\u{3297}' | '\u{3299}'
        | '\u{1F000}'..='\u{1FAFF}')
}

fn is_ideograph(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFD}')
}

/// Tells whether a tag is part of one of the three flags that are written with tags.
fn is_flag(chars: &[char], at: usize) -> bool {
    const FLAG: char = '\u{1F3F4}';
    let Some(begin) = chars[..at].iter().rposition(|c| *c == FLAG) else {
        return false;
    };
    let tags = chars[begin + 1..].iter().map_while(|c| {
        let tag = u32::from(*c).checked_sub(0xE0000)?;
        char::from_u32(tag).filter(|c| c.is_ascii())
    });
    let tags: String = tags.collect();
    let flags = ["gbeng\u{7F}", "gbsct\u{7F}", "gbwls\u{7F}"];
    at - begin <= 6 && flags.contains(&tags.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_escapes_control_and_bidi_characters() {
        assert_eq!(printable("plain \u{e9}"), "plain \u{e9}");
        assert_eq!(printable("a\nb\u{1b}[2J"), "a\\u{a}b\\u{1b}[2J");
        assert_eq!(printable("exe.\u{202e}txt"), "exe.\\u{202e}txt");
    }

    #[test]
    fn what_is_not_seen_is_kept_only_in_words_that_are_spelled_with_it() {
        for word in [
            "\u{645}\u{6CC}\u{200C}\u{62E}\u{648}\u{627}\u{647}\u{645}.txt",
            "\u{DC1}\u{DCA}\u{200D}\u{DBB}\u{DD3} \u{DBD}\u{D82}\u{D9A}\u{DCF}",
            "\u{915}\u{94D}\u{200C}\u{937}",
            "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}.jpg",
            "\u{2764}\u{FE0F}\u{200D}\u{1F525}",
            "\u{1F44B}\u{1F3FD}",
            "1\u{FE0F}\u{20E3}",
            "\u{5E9}\u{5DC}\u{5D5}\u{5DD}\u{200E} (1).txt",
            "\u{845B}\u{E0100}",
            "\u{1F3F4}\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
        ] {
            assert!(
                judged(word).all(|(_, shown)| shown),
                "{}",
                word.escape_unicode()
            );
            assert_eq!(printable(word), word);
        }
        for unseen in [
            "\u{AD}",
            "\u{34F}",
            "\u{115F}",
            "\u{17B4}",
            "\u{180E}",
            "\u{200B}",
            "\u{200C}",
            "\u{200D}",
            "\u{200E}",
            "\u{200F}",
            "\u{202E}",
            "\u{2060}",
            "\u{2061}",
            "\u{2062}",
            "\u{2063}",
            "\u{2064}",
            "\u{2065}",
            "\u{206A}",
            "\u{3164}",
            "\u{FE0F}",
            "\u{FEFF}",
            "\u{FFA0}",
            "\u{FFF9}",
            "\u{1D173}",
            "\u{E0001}",
            "\u{E0041}",
            "\u{E0100}",
        ] {
            for text in [
                format!("pl{unseen}an"),
                format!("plan{unseen}"),
                format!("{unseen}plan"),
            ] {
                assert!(
                    judged(&text).any(|(_, shown)| !shown),
                    "{}",
                    text.escape_unicode()
                );
                assert_eq!(skeleton(&text), "plan");
                assert!(printable(&text).is_ascii());
            }
        }
        // Not twice, and not at the end of a word.
        let word = "\u{645}\u{6CC}\u{200C}\u{200C}\u{62E}";
        assert!(judged(word).any(|(_, shown)| !shown));
        assert!(judged("\u{645}\u{6CC}\u{200C}").any(|(_, shown)| !shown));
        let flag = "\u{1F3F4}\u{E0067}\u{E0062}\u{E007F}";
        assert!(judged(flag).any(|(_, shown)| !shown));
    }
}

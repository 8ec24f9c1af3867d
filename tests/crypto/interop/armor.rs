//! What people's mail programs, editors and copying do to a message, as gpg takes it.

use dds::ids::VersionId;

use super::*;

/// A message in one form after another, each with a name.
fn forms(armored: &str, binary: &[u8]) -> Vec<(String, Vec<u8>)> {
    let lines: Vec<&str> = armored.lines().collect();
    let crc = lines.iter().position(|line| line.starts_with('=')).unwrap();
    assert_eq!(lines[crc + 1], "-----END PGP MESSAGE-----");
    let (begin, body, last) = (lines[0], &lines[2..crc], lines[crc + 1]);
    let crc = lines[crc];
    let text = body.join("\n");
    let indented = |by: &str| {
        let lines = body.iter().map(|line| format!("{by}{line}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let ended = |by: &str| lines.iter().map(|line| format!("{line}{by}")).collect();
    let letter = |length: usize| "All the best, and more of it.\n".repeat(length / 30);
    let forms: Vec<(&str, String)> = vec![
        ("as it is", armored.to_owned()),
        ("no line end", armored.trim_end().to_owned()),
        ("CRLF", ended("\r\n")),
        ("trailing blanks", ended(" \t \n")),
        (
            "indented",
            format!("{begin}\n\n{}\n{crc}\n{last}\n", indented("  ")),
        ),
        (
            "indented by a tab",
            format!("{begin}\n\n{}\n\t{crc}\n\t{last}\n", indented("\t")),
        ),
        (
            "indented headers",
            format!(
                "{begin}\n  Comment: x\n \n{}\n  {crc}\n{last}\n",
                indented("  ")
            ),
        ),
        (
            "a header",
            format!("{begin}\nVersion: 1\nComment: a: b\n\n{text}\n{crc}\n{last}\n"),
        ),
        (
            "a blank line between",
            format!("{begin}\n   \n{text}\n\n{crc}\n\n{last}\n"),
        ),
        (
            "blank lines inside",
            format!("{begin}\n\n{}\n{crc}\n{last}\n", body.join("\n\n")),
        ),
        (
            "blanks inside",
            format!("{begin}\n\n{}\n{crc}\n{last}\n", text.replace('A', " A")),
        ),
        ("no CRC", format!("{begin}\n\n{text}\n{last}\n")),
        (
            "a CRC behind the body",
            format!("{begin}\n\n{text}{crc}\n{last}\n"),
        ),
        (
            "a CRC after a blank",
            format!("{begin}\n\n{text} {crc}\n{last}\n"),
        ),
        (
            "the end behind the CRC",
            format!("{begin}\n\n{text}\n{crc}{last}\n"),
        ),
        (
            "the end behind the body",
            format!("{begin}\n\n{text}{last}\n"),
        ),
        (
            "words after the CRC",
            format!("{begin}\n\n{text}\n{crc}\nsent from afar\n{last}\n"),
        ),
        (
            "one line",
            format!("{begin}\n\n{}\n{crc}\n{last}\n", body.concat()),
        ),
        (
            "one line with all",
            format!("{begin}\n\n{}{crc}{last}\n", body.concat()),
        ),
        ("a letter before", format!("{}{armored}", letter(1000))),
        (
            "a long letter before",
            format!("{}{armored}", letter(100_000)),
        ),
        ("a book before", format!("{}{armored}", letter(3_000_000))),
        ("a letter after", format!("{armored}{}", letter(100_000))),
    ];
    let mut forms: Vec<_> = forms
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.into_bytes()))
        .collect();
    for (name, tail) in [
        ("nothing", &b""[..]),
        ("a line end", b"\n"),
        ("CRLF", b"\r\n"),
        ("blanks", b"  \n\t\n"),
        ("a zero", b"\0"),
        ("zeros", &[0; 512]),
        ("the end of DOS", b"\x1a"),
        ("words", b"-- \nsent from afar\n"),
    ] {
        let name = format!("binary, then {name}");
        forms.push((name, [binary, tail].concat()));
    }
    forms
}

/// Every form that gpg reads is read, and text around a message makes no other version of it.
#[test]
fn messages_are_taken_as_gpg_takes_them_and_stay_one_version() {
    let Some(gpg) = Gpg::new() else { return };
    let ((alice_made, alice), (bob_made, bob)) = (person("alice", false), person("bob", false));
    gpg.run(&["--import", &gpg.file("bob", &bob_made.secret)]);
    let certificate = alice_made.certificate.to_bytes();
    gpg.run(&["--import", &gpg.file("alice", &certificate)]);
    let armored = String::from_utf8(seal(&alice, &[&bob], b"at noon?", false)).unwrap();
    let binary = gpg.run(&[
        "--dearmor",
        "-o",
        "-",
        &gpg.file("m.asc", armored.as_bytes()),
    ]);
    let bob = [bob];
    let mut versions: Vec<VersionId> = Vec::new();
    for (form, message) in forms(&armored, &binary.stdout) {
        let file = gpg.file("message", &message);
        let decrypted = gpg.command().args(["--decrypt", &file]).output().unwrap();
        let told = String::from_utf8_lossy(&decrypted.stderr);
        assert_eq!(decrypted.stdout, b"at noon?", "{form}: {told}");
        let opened = open_with(
            &message,
            &bob,
            std::slice::from_ref(&alice_made.certificate),
        );
        let opened = opened.unwrap_or_else(|| panic!("{form} does not open"));
        assert_eq!(text(&opened), b"at noon?", "{form}");
        versions.push(opened.facts.inside);
    }
    versions.dedup();
    assert_eq!(versions.len(), 1);
}

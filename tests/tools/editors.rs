//! Editors, and commands that change files: each save is one new blob.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use super::desk::World;

#[test]
fn changes_by_commands_leave_one_new_blob() {
    needs!(mount, "sed", "perl", "ed", "patch", "diff");
    let mut world = World::new();
    world.run("echo one > plan.md; mkdir sub; seq 100 > sub/hundred; touch sub/new");
    for (what, saves, script) in [
        ("sed -i", 1, "sed -i 's/^one.*/one SED/' plan.md"),
        ("sed -i again", 1, "sed -i 's/SED/sed/' plan.md"),
        // Perl's and patch's temporary files have names like others, and so they are saved, too.
        ("perl -i", 2, "perl -i -pe 's/sed/perl/' plan.md"),
        ("ed", 1, "printf '%s\\n' '$a' added . wq | ed -s plan.md"),
        ("ed again", 1, "printf '%s\\n' 1d w q | ed -s plan.md"),
        (
            "patch",
            2,
            "printf '%s\\n' '--- plan.md' '+++ plan.md' '@@ -1 +1 @@' -added +patched | patch -s -p0",
        ),
        ("truncate", 1, "truncate -s 3 plan.md"),
        (
            "dd",
            1,
            "printf XY | dd of=plan.md bs=1 seek=1 conv=notrunc status=none",
        ),
        ("tee", 1, "echo teed | tee -a plan.md > /dev/null"),
        (
            "install",
            1,
            "echo installed > $OUT/i; install -m 600 $OUT/i plan.md",
        ),
    ] {
        world.assert_saves(saves, what, || {
            world.run(script);
        });
    }
    world.holds("[[ $(cat plan.md) == installed ]]");
    // With a backup that is kept there are two.
    world.run("sed -i.bak s/installed/sed/ plan.md; perl -i.orig -pe 's/sed/perl/' plan.md");
    world.run(
        "sed 's/^50$/fifty/' sub/hundred > $OUT/new
         diff -u sub/hundred $OUT/new > change.diff || [[ $? == 1 ]]
         patch -s -b sub/hundred change.diff; patch -s -R -o sub/new sub/hundred change.diff",
    );
    world.holds(
        "[[ $(cat plan.md plan.md.bak plan.md.orig) == $'perl\\ninstalled\\nsed' ]]
         [[ $(sed -n 50p sub/hundred) == fifty ]]; cmp sub/hundred $OUT/new
         cmp <(seq 100) sub/hundred.orig; cmp <(seq 100) sub/new",
    );
}

/// What vim is told, and how its way of saving is called.
const VIM_WAYS: [(&str, &str); 8] = [
    ("", "by default"),
    ("set nobackup nowritebackup", "without backups"),
    ("set backup backupcopy=no", "with a renamed backup"),
    ("set backup backupcopy=yes", "with a copied backup"),
    (
        "set nobackup writebackup backupcopy=no",
        "with a renamed backup for a moment",
    ),
    (
        "set nobackup writebackup backupcopy=yes",
        "with a copied backup for a moment",
    ),
    ("set noswapfile", "without a swap file"),
    (
        "set fsync undofile undodir=.",
        "with fsync and an undo file",
    ),
];

#[test]
fn vim_saves_once() {
    needs!(mount, "vim");
    let mut world = World::new();
    world.run("echo first > plan.md");
    let mut lines = 1;
    for configuration in ["NONE", "DEFAULTS", "NORC"] {
        for (set, way) in VIM_WAYS {
            lines += 1;
            let add = format!(
                "vim -N -es -u {configuration} -i NONE --cmd 'set swapfile directory=. backupskip=' \
                 --cmd '{set}' -c 'call append(line(\"$\"), \"line {lines}\")' -c 'wq' plan.md < /dev/null"
            );
            world.assert_one_save(&format!("vim {configuration}, {way}"), || {
                world.run(&add);
            });
            let last = format!(
                "[[ $(tail -n 1 plan.md) == 'line {lines}' && $(wc -l < plan.md) == {lines} ]]"
            );
            world.run(&last);
            if set.starts_with("set backup ") {
                let before = format!("[[ $(wc -l < plan.md~) == {} ]]; rm plan.md~", lines - 1);
                world.run(&before);
            }
        }
    }
    // Two saves of one session are two blobs; the swap file is never one.
    let before = world.notes();
    world.watch.appeared();
    world.run(
        "vim -N -es -u NONE -i NONE --cmd 'set swapfile directory=. backupskip=' -c 'call append(0, \"a\")' -c 'preserve' \
         -c 'call writefile(readdir(\".\", \"v:val =~ \\\".swp\\\"\"), $OUT . \"/swap\")' \
         -c w -c 'call append(0, \"b\")' -c w -c q plan.md",
    );
    world.run("[[ $(cat $OUT/swap) == .plan.md.swp ]]");
    assert_eq!(world.watch.appeared().len(), 2);
    assert_eq!(world.notes().len(), before.len());
    world.holds(&format!(
        "[[ $(head -n 2 plan.md) == $'b\\na' && $(wc -l < plan.md) == {} && $(ls) == plan.md ]]",
        lines + 2
    ));
}

#[test]
fn emacs_saves_once_each_time() {
    needs!(mount, "emacs");
    let mut world = World::new();
    world.run("echo first > plan.md");
    let edit = |setup: &str, saves: &[&str]| {
        let saves: String = saves
            .iter()
            .map(|line| format!("(goto-char (point-max)) (insert \"{line}\\n\") (save-buffer)"))
            .collect();
        // By default nothing below /tmp is backed up.
        format!(
            "emacs -Q --batch --eval '(setq backup-enable-predicate (lambda (_) t))' plan.md \
             --eval '(progn {setup} {saves})'"
        )
    };
    for (setup, saves) in [
        ("", ["one"].as_slice()),
        ("", &["two", "three"]),
        ("(setq backup-by-copying t)", &["four", "five"]),
        ("(setq make-backup-files nil)", &["six"]),
        (
            "(insert \"auto\") (do-auto-save) (delete-char -4)",
            &["seven"],
        ),
        (
            "(setq create-lockfiles nil write-region-inhibit-fsync nil)",
            &["eight", "nine"],
        ),
    ] {
        let before = world.notes();
        world.watch.appeared();
        world.run(&edit(setup, saves));
        assert_eq!(world.watch.appeared().len(), saves.len(), "{setup}");
        assert_eq!(world.notes().len(), before.len(), "{setup}");
    }
    world.run("[[ $(wc -l < plan.md~) -lt $(wc -l < plan.md) ]]; rm plan.md~");
    world.holds(
        "[[ $(tr '\\n' ' ' < plan.md) == 'first one two three four five six seven eight nine ' ]]
         [[ $(ls -A) == plan.md ]]",
    );
}

/// Types into nano on a terminal of its own, waiting for what it shows.
#[test]
fn nano_saves_once() {
    needs!(mount, "nano", "script");
    let mut world = World::new();
    world.run("echo first > plan.md");
    for options in ["", "--backup", "--locking"] {
        world.assert_one_save(&format!("nano {options}"), || {
            let mut session = world
                .rig
                .home
                .command("timeout")
                .args(["60", "script", "-qfec"])
                .arg(format!("nano --ignorercfiles {options} plan.md"))
                .arg("/dev/null")
                .current_dir(world.path("notes/me"))
                .env("TERM", "xterm")
                .env("SHELL", "/bin/sh")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut keys = session.stdin.take().unwrap();
            let mut screen = session.stdout.take().unwrap();
            let mut type_after = |shown: &str, text: &[u8]| {
                let (mut seen, mut part) = (String::new(), [0; 4096]);
                while !seen.contains(shown) {
                    let size = screen.read(&mut part).unwrap();
                    assert!(size > 0, "nano ended: {seen}");
                    seen += &String::from_utf8_lossy(&part[..size]);
                }
                keys.write_all(text).unwrap();
            };
            type_after("first", b"typed \x0f");
            type_after("Write", b"\r");
            type_after("Wrote", b"\x18");
            let ended = session.wait().unwrap();
            assert!(ended.success(), "nano {options}: {ended}");
        });
    }
    world.run("[[ $(cat plan.md~) == 'typed first' ]]; rm plan.md~");
    world.holds("[[ $(cat plan.md) == 'typed typed typed first' && $(ls -A) == plan.md ]]");
}

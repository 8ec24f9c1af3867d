//! Programs that people use, on files of a real mount: what they do is right at once and after a
//! remount, and the store holds nothing but blobs.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Stdio;

use crate::support::mount::{can_mount, wait_for};
use crate::support::people::{Blob, Person, blobs};
use crate::support::programs::{assert_only_blobs, assert_quiet, attempt, installed, run};
use crate::support::rig::{Cast, Mounted, Rig as _};
use crate::support::watch::Watch;
use dds::ids::{BlobKind, Folder};
use rustix::fs::{CWD, FileType, Mode};

/// A mount with its store, and a directory elsewhere with something in it.
struct World {
    rig: Mounted,
    cast: Cast,
    watch: Watch,
}

impl World {
    /// A world with these programs. `None` where there is none, which is said loudly.
    fn with(programs: &[&str]) -> Option<World> {
        if !can_mount() || !installed(programs) {
            return None;
        }
        let cast = Cast::new();
        let rig = Mounted::new(&cast, "");
        std::fs::create_dir(rig.home.path("elsewhere")).unwrap();
        let watch = Watch::new(&rig.store().join("notes"));
        Some(World { rig, cast, watch })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.rig.mount().path(name)
    }

    /// Runs a script in a directory of the view. `$OUT` is the directory elsewhere, `$VIEW` the
    /// mountpoint.
    #[track_caller]
    fn run_in(&self, directory: &str, script: &str) -> String {
        let directory = self.path(directory);
        run(&self.rig.home, &directory, &self.with_places(script))
    }

    #[track_caller]
    fn run(&self, script: &str) -> String {
        self.run_in("notes/me", script)
    }

    /// The exit code of a script, and what it said.
    fn attempt(&self, script: &str) -> (Option<i32>, String) {
        let script = self.with_places(script);
        let output = attempt(&self.rig.home, &self.path("notes/me"), &script);
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    fn with_places(&self, script: &str) -> String {
        let out = self.rig.home.path("elsewhere");
        let view = self.rig.mount().path("");
        format!(
            "export OUT='{}' VIEW='{}'\n{script}",
            out.display(),
            view.display()
        )
    }

    /// Runs checks, and again after a remount.
    #[track_caller]
    fn holds(&mut self, script: &str) {
        self.run(script);
        assert_quiet(&self.rig);
        self.rig.remount();
        self.run(script);
        assert_quiet(&self.rig);
    }

    /// Names in the notes of the store, once everything is settled.
    fn notes(&self) -> Vec<String> {
        self.rig.settle();
        blobs(self.rig.store(), Folder::Notes)
    }

    /// Asserts that a change appeared to the store as one new blob in place of an old one.
    #[track_caller]
    fn assert_one_save(&self, what: &str, change: impl FnOnce()) {
        self.assert_saves(1, what, change);
    }

    /// Asserts that so many new blobs appeared, one after the other, in place of an old one.
    #[track_caller]
    fn assert_saves(&self, saves: usize, what: &str, change: impl FnOnce()) {
        let before = self.notes();
        self.watch.appeared();
        change();
        let after = self.notes();
        let appeared = self.watch.appeared();
        assert_eq!(appeared.len(), saves, "{what}: {appeared:?}");
        let last = appeared.last().unwrap();
        assert!(!before.contains(last) && after.contains(last), "{what}");
        assert_eq!(after.len(), before.len(), "{what}");
        assert_only_blobs(self.rig.store());
    }
}

/// Makes a tree of files with modes and times in `$OUT/tree`.
const TREE: &str = r#"
    mkdir -p $OUT/tree/deep/er $OUT/tree/empty
    seq 5 > $OUT/tree/five
    : > $OUT/tree/nothing
    printf '#!/bin/sh\necho "it runs"\n' > $OUT/tree/deep/script
    head -c 300000 /dev/urandom > $OUT/tree/deep/er/large
    echo umlaut > "$OUT/tree/deep/er/Übung und Leerzeichen.txt"
    chmod 700 $OUT/tree/deep/script
    chmod 400 $OUT/tree/five
    touch -d '2001-02-03 04:05:06.789012345' $OUT/tree/five
    touch -d '1999-12-31 23:59:59' $OUT/tree/deep/er/large
"#;

/// Compares a tree with the one that `TREE` made. Times of directories are not kept.
const SAME_TREE: &str = r#"
    same_tree() {
        diff -r $OUT/tree "$1"
        facts() {
            cd "$1"
            find . -type d -printf '%p %m\n' -o -printf '%p %m %s %T@\n' | sort
        }
        diff <(facts $OUT/tree) <(facts "$1")
    }
"#;

#[test]
fn cp_keeps_trees_modes_and_times() {
    let Some(mut world) = World::with(&["cp", "find"]) else {
        return;
    };
    world.run(&format!("{TREE} cp -a $OUT/tree copy; cp -a copy again"));
    world.holds(&format!(
        "{SAME_TREE} same_tree copy; same_tree again; [[ $(copy/deep/script) == 'it runs' ]]"
    ));
    // A file that only me can read is copied out as it is.
    world.run("cp -a copy $OUT/back; diff -r copy $OUT/back");
    // What cannot be there is refused by name, and the rest is copied.
    let (code, said) = world.attempt("ln -s five $OUT/tree/link; cp -a $OUT/tree linked");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot create symbolic link"), "{said}");
    world.holds("diff -r copy linked");
}

#[test]
fn rsync_copies_once() {
    let Some(mut world) = World::with(&["rsync"]) else {
        return;
    };
    world.run(TREE);
    world.run("rsync -a $OUT/tree/ copy");
    let before = world.notes();
    // Directories' times are not kept, so they are left out; of files nothing is sent again.
    let again = "rsync -aiO $OUT/tree/ copy";
    assert_eq!(world.run(again), "");
    let sent = world.run("rsync -ai $OUT/tree/ copy");
    assert!(!sent.lines().any(|line| line.starts_with('>')), "{sent}");
    assert_eq!(world.notes(), before);
    world.holds(&format!("{SAME_TREE} same_tree copy"));
    assert_eq!(world.run(again), "");
    assert_eq!(world.notes(), before);
    // A file that is replaced is one new blob. One that is changed in place gets its time after it
    // was closed, which is another one.
    for (n, (option, saves)) in [("", 1), ("--inplace", 2), ("--append", 2)]
        .into_iter()
        .enumerate()
    {
        world.assert_saves(saves, option, || {
            let script = format!(
                "echo more >> $OUT/tree/deep/script
                 touch -d @10000000{n} $OUT/tree/deep/script
                 [[ $(rsync -aiO {option} $OUT/tree/ copy | wc -l) == 1 ]]"
            );
            world.run(&script);
        });
    }
    world.run("chmod 600 $OUT/tree/five; rm $OUT/tree/nothing; rsync -aO --delete $OUT/tree/ copy");
    world.holds(&format!("{SAME_TREE} same_tree copy"));
    // Modes for others cannot be kept, and are not sent again and again either.
    let before = world.notes();
    world.run("chmod 644 $OUT/tree/five; rsync -aO $OUT/tree/ copy");
    assert_eq!(world.notes(), before);
}

#[test]
fn certificates_are_copied_in_by_whatever_program_and_under_any_name() {
    let Some(mut world) = World::with(&["cp", "install", "mv", "rsync", "cmp"]) else {
        return;
    };
    let people: Vec<Person> = (0..8).map(|n| Person::new(&format!("Guest{n}"))).collect();
    let out = world.rig.home.path("elsewhere");
    for (n, command) in [
        "cp $FROM $TO",
        "cp -p $FROM $TO",
        "cp -a $FROM $TO/",
        "install -m 644 $FROM $TO",
        "cp $FROM $OUT/moved && mv $FROM $TO && mv $OUT/moved $FROM",
        "rsync -a $FROM $TO",
        "rsync -a --inplace $FROM $TO",
        "rsync -rtp --chmod=F600 $FROM $TO/",
    ]
    .iter()
    .enumerate()
    {
        let certificate = people[n].certificate();
        let stored = format!("{}.asc", people[n].fingerprint());
        for (name, bytes) in [
            (format!("guest{n}.cert"), certificate.to_bytes()),
            (format!("guest{n}.gpg"), certificate.to_bytes()),
            (stored.clone(), certificate.to_armored()),
        ] {
            std::fs::write(out.join(&name), bytes).unwrap();
            // Twice, as people do who are not sure.
            for time in ["once", "twice"] {
                let places = format!("FROM=$OUT/{name}\nTO=$VIEW/keys\n");
                let (code, said) = world.attempt(&format!("{places}{command}"));
                assert_eq!(code, Some(0), "{command} {name} {time}: {said}");
                assert!(!said.contains("rror"), "{command} {name} {time}: {said}");
            }
        }
        let keys = world.run("ls -A $VIEW/keys");
        assert!(keys.contains(&stored), "{command}: {keys}");
        let armored = certificate.to_armored();
        std::fs::write(out.join("expected"), armored).unwrap();
        world.run(&format!("cmp $OUT/expected $VIEW/keys/{stored}"));
        world.run(&format!("ls -d $VIEW/messages/guest{n}"));
    }
    // Nothing that programs wrote aside is left, in the store or in the view.
    let listed = world.run("ls -A $VIEW/keys");
    let strange = listed.lines().find(|name| {
        let extensions = [".asc", ".gpg"];
        name.starts_with('.') || !extensions.iter().any(|one| name.ends_with(one))
    });
    assert_eq!(strange, None, "{listed}");
    world.rig.remount();
    assert_eq!(world.run("ls -A $VIEW/keys"), listed);
    assert_quiet(&world.rig);
}

#[test]
fn archives_unpack_and_pack() {
    let Some(mut world) = World::with(&["tar", "zip", "unzip"]) else {
        return;
    };
    world.run(TREE);
    world.run(
        "tar cf $OUT/a.tar --format=posix -C $OUT tree; (cd $OUT; zip -qr a.zip tree)
         tar xf $OUT/a.tar; mv tree tar; unzip -q $OUT/a.zip; mv tree zip",
    );
    world.holds(&format!(
        "{SAME_TREE} same_tree tar; diff -r $OUT/tree zip; [[ $(zip/deep/script) == 'it runs' ]]
         [[ $(stat -c %Y zip/deep/er/large) == $(stat -c %Y $OUT/tree/deep/er/large) ]]"
    ));
    world.run("tar czf a.tgz tar; (cd tar; zip -qr ../a.zip .); zip -q a.zip a.tgz");
    world.holds(
        "[[ $(tar tzf a.tgz) == *large* ]]; unzip -qt a.zip
         rm -rf $OUT/x; mkdir $OUT/x; tar xzf a.tgz -C $OUT/x; diff -r $OUT/x/tar tar",
    );
}

#[test]
fn changes_by_commands_leave_one_new_blob() {
    let Some(mut world) = World::with(&["sed", "perl", "ed", "patch", "diff"]) else {
        return;
    };
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

#[test]
fn mv_moves_within_and_between_audiences() {
    let Some(mut world) = World::with(&["mv", "find"]) else {
        return;
    };
    let lunch = Blob::new(
        BlobKind::Message,
        &world.cast.bob,
        &[&world.cast.bob, &world.cast.me],
        "lunch.txt",
    );
    let lunch = lunch.content(b"at noon?\n");
    lunch.deliver(world.rig.store(), Folder::Messages);

    world.run(&format!(
        "{TREE} cp -a $OUT/tree tree; echo single > single"
    ));
    world.run("mv single renamed; mv tree moved; mv moved/deep .; mv deep moved/");
    world.holds(&format!(
        "{SAME_TREE} same_tree moved; [[ $(cat renamed) == single ]]"
    ));

    // To another audience everything is encrypted anew, and the originals go.
    let shared = "notes/bob,carol";
    world.run("mv renamed ../bob,carol/single; mv moved ../bob,carol/tree; [[ -z $(ls -A) ]]");
    world.holds(&format!(
        "{SAME_TREE} same_tree ../bob,carol/tree; [[ $(cat ../bob,carol/single) == single ]]
         [[ -z $(ls -A) ]]"
    ));
    let readers = |path: &str| world.rig.xattr(path, "user.dds.to").unwrap();
    for file in ["single", "tree/deep/script"] {
        assert_eq!(readers(&format!("{shared}/{file}")), "bob,carol,me");
    }

    // What others can read is kept for them.
    let (code, said) = world.attempt("mv ../bob,carol/single ../bob/");
    assert_eq!(code, Some(1), "{said}");
    world.holds("[[ $(cat ../bob,carol/single ../bob/single) == $'single\\nsingle' ]]");

    // A received message becomes a note of mine, and is gone where it was.
    world.run("mv ../../messages/bob/lunch.txt .");
    world.holds("[[ $(cat lunch.txt) == 'at noon?' ]]; [[ -z $(ls -A ../../messages/bob) ]]");
    assert!(blobs(world.rig.store(), Folder::Messages).is_empty());

    // A message is composed at leisure, and sent by moving it.
    world.run("echo draft > letter; echo more >> letter; mv letter ../../messages/bob/");
    assert_eq!(blobs(world.rig.store(), Folder::Messages).len(), 1);
    world.holds("[[ $(cat ../../messages/bob/letter) == $'draft\\nmore' ]]; [[ ! -e letter ]]");
}

#[test]
fn git_works_in_a_note() {
    let Some(mut world) = World::with(&["git"]) else {
        return;
    };
    world.run(
        "git config --global user.name me; git config --global user.email me@example.org
         git config --global init.defaultBranch main; git config --global gc.auto 0
         git config --global advice.detachedHead false
         git init -q work; cd work
         for i in 1 2 3; do seq $i > file$i; done; mkdir sub; echo below > sub/file
         git add .; git commit -qm first
         sed -i s/1/one/ file1; git mv file2 sub/; git commit -qam second
         git checkout -qb side HEAD~1; echo side > side; git add .; git commit -qm side
         git checkout -q main; git merge -q --no-edit side; git tag -m tagged v1",
    );
    let checks = "cd work; git fsck --strict --no-dangling; [[ -z $(git status --porcelain) ]]
        [[ $(git log --oneline | wc -l) == 4 && $(cat file1 side sub/file2) == $'one\\nside\\n1\\n2' ]]";
    world.holds(checks);
    world.run(
        "git clone -q work clone; git clone -q --no-local work again; git clone -q --bare work bare.git
         cd clone; echo pushed > pushed; git add .; git commit -qm pushed; git push -q ../bare.git main",
    );
    world.run("git -C work gc -q --prune=now; git -C work repack -qad");
    world.holds(&format!(
        "({checks}); diff -r -x .git work again
         for i in clone again bare.git; do git -C $i fsck --strict --no-dangling; done
         [[ $(git -C bare.git log -1 --format=%s main) == pushed ]]"
    ));
}

#[test]
fn sqlite_keeps_a_database() {
    let Some(mut world) = World::with(&["sqlite3"]) else {
        return;
    };
    let insert = "insert into t with recursive n(i) as (select 1 union all select i+1 from n \
        where i<500) select i, hex(randomblob(50)) from n;";
    for mode in ["delete", "truncate", "persist", "memory", "wal"] {
        let check = |rows: usize| {
            format!(
                "[[ $(sqlite3 {mode}.db 'pragma integrity_check; select count(*) from t') == $'ok\\n{rows}' ]]"
            )
        };
        world.run(&format!(
            "sqlite3 {mode}.db 'pragma journal_mode={mode}; create table t(a, b); {insert}'
             sqlite3 {mode}.db 'pragma journal_mode={mode}; begin; {insert} rollback; vacuum;'
             sqlite3 {mode}.db 'pragma journal_mode={mode}; begin; {insert} commit; update t set a=a+1;'"
        ));
        world.holds(&check(1000));
        // Two processes at once.
        world.run(&format!(
            "for i in 1 2 3; do
                 sqlite3 -cmd '.timeout 60000' {mode}.db 'begin immediate; {insert} commit;' &
             done; wait; for job in $(jobs -p); do wait $job; done"
        ));
        world.holds(&check(2500));
    }
    // A writer that is killed within a transaction is rolled back by the next one who looks.
    world.run(
        "mkfifo $OUT/sql $OUT/said
         sqlite3 delete.db < $OUT/sql > $OUT/said & pid=$!
         exec 3> $OUT/sql 4< $OUT/said
         echo 'pragma cache_size=1; begin exclusive; delete from t; select count(*) from t;' >&3
         read -r rows <&4; [[ $rows == 0 ]]
         kill -9 $pid; wait $pid || true
         [[ $(sqlite3 delete.db 'pragma integrity_check; select count(*) from t') == $'ok\\n2500' ]]",
    );
}

#[test]
fn programs_remove_what_they_made_in_a_shared_note() {
    let Some(mut world) = World::with(&["git", "sqlite3", "zip"]) else {
        return;
    };
    let check = "cd $VIEW/notes/bob; cat t.txt; unzip -tq new.zip
         [[ $(sqlite3 x.db 'pragma integrity_check; select a from t') == $'ok\\n1' ]]
         [[ $(ls) == $'new.zip\\nr\\nt.txt\\nx.db' ]]
         cd r; git fsck --strict --no-dangling; [[ -z $(git status --porcelain) ]]
         [[ -z $(find .git -name '*.lock' -o -name 'tmp_*') ]]";
    world.run(&format!(
        "cd $VIEW/notes/bob
         echo t > t.txt; zip -q new.zip t.txt; zip -q new.zip t.txt
         sqlite3 x.db 'create table t(a); insert into t values(1);'
         git config --global user.name me; git config --global user.email me@example.org
         git init -q r; cd r; echo a > a; git add a; git commit -qm 1; echo b > a; git commit -qam 2
         {check}"
    ));
    world.holds(check);
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
    let Some(mut world) = World::with(&["vim"]) else {
        return;
    };
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
    let Some(mut world) = World::with(&["emacs"]) else {
        return;
    };
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
    let Some(mut world) = World::with(&["nano", "script"]) else {
        return;
    };
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

#[test]
fn locks_hold_between_processes() {
    let Some(world) = World::with(&["flock", "perl"]) else {
        return;
    };
    world.run(
        "exec 3> lock; flock 3
         flock -n lock true && exit 1
         flock -n -s lock true && exit 1
         exec 3>&-; flock -n lock true
         exec 3< lock 4< lock; flock -s 3; flock -n -s 4; flock -n lock true && exit 1; true",
    );
    // This process has bytes 10 to 19; another one asks for parts.
    let file = File::create(world.path("notes/me/ranges")).unwrap();
    let lock = |kind: libc::c_int| {
        // SAFETY: all zero is a valid flock.
        let mut range: libc::flock = unsafe { std::mem::zeroed() };
        range.l_type = kind as libc::c_short;
        range.l_whence = libc::SEEK_SET as libc::c_short;
        (range.l_start, range.l_len) = (10, 10);
        // SAFETY: the descriptor is open, and fcntl only reads the flock.
        let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const range) };
        assert_eq!(done, 0);
    };
    // Perl's module converts no structs; this is how Linux lays them out on 64 bits.
    let ask = |start: u32, len: u32| {
        let script = format!(
            "perl -MFcntl -e 'open my $f, \"+<\", \"ranges\" or die $!; \
             my $l = pack(\"s s x4 q q l x4\", F_WRLCK, 0, {start}, {len}, 0); \
             exit(fcntl($f, F_SETLK, $l) ? 0 : $!{{EAGAIN}} || $!{{EACCES}} ? 9 : die $!)'"
        );
        world.attempt(&script)
    };
    lock(libc::F_WRLCK);
    for (start, len, code) in [(0, 10, 0), (20, 5, 0), (10, 1, 9), (15, 10, 9), (0, 0, 9)] {
        assert_eq!(
            ask(start, len),
            (Some(code), String::new()),
            "{start}+{len}"
        );
    }
    lock(libc::F_UNLCK);
    assert_eq!(ask(0, 0), (Some(0), String::new()));
    drop(file);
    assert_quiet(&world.rig);
}

#[test]
fn modes_and_times_are_kept() {
    let Some(mut world) = World::with(&["touch", "chmod", "stat"]) else {
        return;
    };
    world.run(
        "umask 022; echo a > usual; umask 177; echo b > narrow; umask 777; echo c > none; umask 077
         echo d > mode; chmod 755 mode; chmod u-w,go=rwx usual; chmod 4700 narrow
         touch -d '1980-01-01 00:00:01.5' mode; touch -d '2100-01-01' usual; touch -r mode narrow
         touch -a none; touch new; touch -d @0 epoch; touch -d @-1 before
         echo e > old; touch -d '1969-12-31 23:59:58.25' old; touch -d '1901-12-14 12:00:00.9' new",
    );
    let facts = world.run("stat -c '%n %a %y %s' *");
    for line in [
        "mode 700 1980-01-01 00:00:01.500000000 +0000 2",
        "usual 400 2100-01-01 00:00:00.000000000 +0000 2",
        "narrow 700 1980-01-01 00:00:01.500000000 +0000 2",
        "old 600 1969-12-31 23:59:58.250000000 +0000 2",
        "new 600 1901-12-14 12:00:00.900000000 +0000 0",
        "before 600 1969-12-31 23:59:59.000000000 +0000 0",
    ] {
        assert!(facts.lines().any(|said| said == line), "{line}: {facts}");
    }
    assert!(facts.contains("\nnone 0 "), "{facts}");
    assert_quiet(&world.rig);
    world.rig.remount();
    assert_eq!(world.run("stat -c '%n %a %y %s' *"), facts);
    // Owner and group are the mount's; giving files away is refused.
    let mode = std::fs::metadata(world.path("notes/me/mode")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o7777, 0o700);
    world.run(&format!(
        "chown {} mode; chgrp {} mode",
        mode.uid(),
        mode.gid()
    ));
    if mode.uid() == 0 {
        let (code, said) = world.attempt("chown 1 mode");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("Operation not permitted"), "{said}");
    }
    // touch and chmod of a message never send it again.
    world.run("echo hi > ../../messages/bob/hi.txt");
    let before = blobs(world.rig.store(), Folder::Messages);
    world.run("touch ../../messages/bob/hi.txt; chmod 400 ../../messages/bob/hi.txt");
    world.rig.settle();
    assert_eq!(blobs(world.rig.store(), Folder::Messages), before);
}

#[test]
fn a_message_keeps_the_time_that_it_is_given_before_it_is_sent() {
    let Some(mut world) = World::with(&["cp", "mv", "tar", "rsync", "touch", "stat"]) else {
        return;
    };
    let sent = Watch::new(&world.rig.store().join("messages"));
    world.run(
        "echo photo > $OUT/p; chmod 400 $OUT/p; touch -d '2001-02-03 04:05:06.75' $OUT/p
         to=../../messages/bob
         cp -p $OUT/p $to/cp; cp -a $OUT/p $to/archive; cp $OUT/p $OUT/q; touch -r $OUT/p $OUT/q
         mv $OUT/q $to/mv; cp -p $OUT/p mine; mv mine $to/note
         cp -p $OUT/p $OUT/tar; tar -C $OUT --format=posix -cf $OUT/t.tar tar; tar -C $to -xf $OUT/t.tar
         rsync -a $OUT/p $to/rsync
         touch -r $OUT/p $to/empty",
    );
    let mut open = File::create(world.path("messages/bob/open")).unwrap();
    open.write_all(b"x").unwrap();
    let photo = std::fs::metadata(world.rig.home.path("elsewhere/p")).unwrap();
    open.set_modified(photo.modified().unwrap()).unwrap();
    drop(open);
    let count = 8;
    wait_for("the empty message, which nobody closes", || {
        blobs(world.rig.store(), Folder::Messages).len() == count
    });
    assert_eq!(sent.appeared().len(), count, "each is sent once");
    let before = blobs(world.rig.store(), Folder::Messages);
    world.run("touch -d '1999-09-09' ../../messages/bob/*");
    assert_eq!(blobs(world.rig.store(), Folder::Messages), before);
    world.holds(&format!(
        "[[ $(stat -c %y ../../messages/bob/* | sort -u) == '2001-02-03 04:05:06.750000000 +0000' ]]
         [[ $(ls ../../messages/bob | wc -l) == {count} ]]"
    ));
    assert!(sent.appeared().is_empty());
}

#[test]
fn mknod_makes_files_and_says_what_it_does_not_make() {
    let Some(mut world) = World::with(&["mkfifo", "tar", "cat"]) else {
        return;
    };
    let sent = Watch::new(&world.rig.store().join("messages"));
    let make = |path: &str, kind: FileType| {
        let mode = Mode::from_raw_mode(0o640);
        let made = rustix::fs::mknodat(CWD, world.path(path), kind, mode, 0);
        made.map_err(|errno| errno.raw_os_error())
    };
    let file = FileType::RegularFile;
    make("notes/me/made", file).unwrap();
    assert_eq!(world.notes().len(), 1, "it is there after a crash, too");
    assert_eq!(world.rig.stat("notes/me/made").unwrap().0, 0o600);
    assert_eq!(make("notes/me/made", file), Err(libc::EEXIST));
    // Whoever makes a message so opens it next.
    make("messages/bob/made", file).unwrap();
    assert_eq!(world.rig.size("messages/bob/made").unwrap(), 0);
    assert!(sent.appeared().is_empty());
    world.run("echo hi > ../../messages/bob/made; cat ../../messages/bob/made > made");
    assert_eq!(sent.appeared().len(), 1);
    let key = world.cast.mallory.certificate().to_armored();
    make("keys/mallory.asc", file).unwrap();
    world.rig.write("keys/mallory.asc", &key).unwrap();
    assert_eq!(world.rig.list("messages/mallory"), Ok(Vec::new()));
    for (path, kind, errno, why) in [
        (
            "notes/me/p",
            FileType::Fifo,
            libc::EPERM,
            "named pipes cannot be made here",
        ),
        (
            "notes/me/s",
            FileType::Socket,
            libc::EPERM,
            "sockets cannot be made here",
        ),
        ("notes/x", file, libc::EPERM, "notes go into notes/NAME/"),
        (
            "messages/x",
            FileType::Fifo,
            libc::EPERM,
            "messages go into messages/NAME/",
        ),
        (
            "software/x",
            file,
            libc::EROFS,
            "software/ is read-only here",
        ),
        (
            "notes/me/.Trash-1",
            file,
            libc::EPERM,
            "there is no trash here",
        ),
    ] {
        assert_eq!(make(path, kind), Err(errno), "{path}");
        let told = String::from_utf8(world.rig.read(".dds/errors").unwrap()).unwrap();
        let last = told.lines().last().unwrap_or_default();
        assert!(last.contains(&format!("{path}: {why}")), "{last}");
    }
    // tar makes a file so to set its attributes before it opens it.
    world.run("mkdir $OUT/t; echo a > $OUT/t/plain; echo b > $OUT/t/tagged");
    let tagged = world.rig.home.path("elsewhere/t/tagged");
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&tagged, "user.comment", b"hi", flags).is_ok() {
        world
            .run("tar --xattrs -C $OUT/t -cf $OUT/t.tar plain tagged; tar --xattrs -xf $OUT/t.tar");
        world.rig.remount();
        world.run("[[ $(cat plain tagged made) == $'a\\nb\\nhi' ]]");
    }
}

#[test]
fn what_stat_says_of_names_links_times_and_modes_is_as_posix_says() {
    let Some(world) = World::with(&["touch"]) else {
        return;
    };
    let stat = |path: &str| std::fs::metadata(world.path(path)).unwrap();
    let long = format!("notes/me/{}", "x".repeat(256));
    let number = |error: std::io::Error| error.raw_os_error();
    let inside = world.path(&format!("{long}/x"));
    assert_eq!(
        std::fs::metadata(&inside).map_err(number).err(),
        Some(Some(libc::ENAMETOOLONG))
    );
    assert_eq!(
        std::fs::remove_file(&inside).map_err(number),
        Err(Some(libc::ENAMETOOLONG))
    );
    assert_eq!(world.rig.rmdir(&long), Err(libc::ENAMETOOLONG));
    assert_eq!(world.rig.mkdir(&long), Err(libc::ENAMETOOLONG));
    world.rig.write("notes/me/f", b"1").unwrap();
    assert_eq!(
        world.rig.rename("notes/me/f", &long),
        Err(libc::ENAMETOOLONG)
    );
    assert_eq!(
        world.rig.size(&format!("messages/{}", "x".repeat(256))),
        Err(libc::ENAMETOOLONG)
    );

    // Each directory in it has a `..`.
    assert_eq!(stat("notes/me").nlink(), 2);
    world.run("mkdir a a/b a/c; touch a/file");
    assert_eq!(
        (stat("notes/me").nlink(), stat("notes/me/a").nlink()),
        (3, 4)
    );
    world.run("mv a/b .; rmdir a/c");
    assert_eq!(
        (stat("notes/me").nlink(), stat("notes/me/a").nlink()),
        (4, 2)
    );

    // Whatever changes an attribute or the name is a change; what fails is none.
    let times = |path: &str| {
        let found = stat(path);
        let changed = (found.ctime(), found.ctime_nsec());
        ((found.mtime(), found.mtime_nsec()), changed)
    };
    let mut before = times("notes/me/f");
    let mut changes = |what: &str, written: bool, change: &dyn Fn()| {
        change();
        let after = times("notes/me/f");
        assert!(after.1 > before.1, "{what}: {before:?} {after:?}");
        assert_eq!(after.0 != before.0, written, "{what}");
        before = after;
    };
    changes("chmod", false, &|| {
        world.rig.chmod("notes/me/f", 0o400).unwrap()
    });
    changes("chmod", false, &|| {
        world.rig.chmod("notes/me/f", 0o600).unwrap()
    });
    changes("rename", false, &|| {
        world.rig.rename("notes/me/f", "notes/me/g").unwrap();
        world.rig.rename("notes/me/g", "notes/me/f").unwrap();
    });
    changes("utimes", true, &|| drop(world.run("touch -d 2001-01-01 f")));
    changes("write", true, &|| {
        world.rig.append("notes/me/f", b"2").unwrap()
    });
    assert_eq!(
        world.rig.rename("notes/me/f", "notes/bob/f"),
        Err(libc::EXDEV)
    );
    assert_eq!(
        world.rig.rename("notes/me/f", "notes/me/a"),
        Err(libc::EISDIR)
    );
    assert_eq!(times("notes/me/f"), before);

    // Of a directory's mode the owner's bits are kept, as of a file's.
    world.run("umask 027; mkdir wide; mkdir -m 500 narrow; umask 0777; mkdir none; umask 077");
    world.run("mkdir wider; chmod 555 wide; chmod 755 wider; mkdir implied; touch implied/x");
    let modes = ["wide", "narrow", "none", "wider", "implied"]
        .map(|name| stat(&format!("notes/me/{name}")).mode() & 0o7777);
    assert_eq!(modes, [0o500, 0o500, 0, 0o700, 0o700]);
    let before = times("notes/me/wider").1;
    world.run("chmod 300 wider");
    assert!(times("notes/me/wider").1 > before);
    let mut world = world;
    world.rig.remount();
    let stat = |path: &str| std::fs::metadata(world.path(path)).unwrap();
    let modes = ["wide", "narrow", "none", "wider", "implied"]
        .map(|name| stat(&format!("notes/me/{name}")).mode() & 0o7777);
    assert_eq!(modes, [0o500, 0o500, 0, 0o300, 0o700]);
}

#[test]
fn what_is_not_offered_is_answered_as_programs_expect() {
    let Some(mut world) = World::with(&["fallocate", "truncate", "cp"]) else {
        return;
    };
    world.run("seq 1000 > file; (seq 10; head -c 200000 /dev/zero; seq 10) > holes");
    for (script, sentence) in [
        ("fallocate -l 10000 file", "not supported"),
        ("fallocate -p -o 0 -l 100 file", "not supported"),
        ("fallocate -d holes", "not supported"),
        ("cp --reflink=always file clone", "not supported"),
        ("ln file hard", "not permitted"),
        ("ln -s file soft", "not permitted"),
        ("mkfifo fifo", "not permitted"),
        ("mkdir ../../messages/bob/sub", "not permitted"),
        ("mkdir ../nobody", "No such file"),
    ] {
        let (code, said) = world.attempt(script);
        let said = said.replace("unsupported", "not supported");
        assert_eq!(code, Some(1), "{script}: {said}");
        assert!(said.contains(sentence), "{script}: {said}");
    }
    world.run("rm -f clone");
    world.run(
        "cp --reflink=auto file reflink; cp --sparse=always holes sparse; cp --sparse=always holes $OUT/sparse
         cp --sparse=auto holes plain; truncate -s 5 reflink; truncate -s 3000 reflink; truncate -r file plain",
    );
    world.holds(
        "cmp holes sparse; cmp holes $OUT/sparse
         cmp <(printf '1\\n2\\n3'; head -c 2995 /dev/zero) reflink; cmp -n $(stat -c %s file) holes plain
         [[ $(stat -c %s plain) == $(stat -c %s file) ]]",
    );
    let path = std::ffi::CString::new(world.path("notes/me").into_os_string().into_encoded_bytes());
    // SAFETY: a valid C string; O_TMPFILE takes a mode.
    let nameless = unsafe {
        libc::open(
            path.unwrap().as_ptr(),
            libc::O_TMPFILE | libc::O_RDWR,
            0o600,
        )
    };
    let error = std::io::Error::last_os_error().raw_os_error();
    assert_eq!((nameless, error), (-1, Some(libc::EOPNOTSUPP)));

    let options = &mut File::options();
    let file = options
        .read(true)
        .write(true)
        .open(world.path("notes/me/file"))
        .unwrap();
    let size = i64::try_from(file.metadata().unwrap().len()).unwrap();
    // SAFETY: the descriptors are open; none of these calls takes a pointer that is not null.
    unsafe {
        // The C library emulates it by writing.
        assert_eq!(libc::posix_fallocate(file.as_raw_fd(), 0, size + 100), 0);
        // A file without holes has one at its end.
        assert_eq!(
            libc::lseek(file.as_raw_fd(), 0, libc::SEEK_HOLE),
            size + 100
        );
        assert_eq!(libc::lseek(file.as_raw_fd(), 5, libc::SEEK_DATA), 5);
        assert_eq!(
            libc::lseek(file.as_raw_fd(), size + 100, libc::SEEK_DATA),
            -1
        );
        assert_eq!(
            std::io::Error::last_os_error().raw_os_error(),
            Some(libc::ENXIO)
        );
        let copy = File::create(world.path("notes/me/copied")).unwrap();
        let (from, to) = (&mut 10_i64, &mut 0_i64);
        let copied = libc::copy_file_range(file.as_raw_fd(), from, copy.as_raw_fd(), to, 50, 0);
        assert_eq!((copied, *from, *to), (50, 60, 50));
    }
    drop(file);
    world.holds(
        "cmp <(seq 1000; head -c 100 /dev/zero) file; cmp <(tail -c +11 file | head -c 50) copied",
    );
}

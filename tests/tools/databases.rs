//! git and sqlite: many small files, locks, and journals.

use super::desk::World;

#[test]
fn git_works_in_a_note() {
    needs!(mount, "git");
    let mut world = World::new();
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
    needs!(mount, "sqlite3");
    let mut world = World::new();
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
    needs!(mount, "git", "sqlite3", "zip");
    let mut world = World::new();
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

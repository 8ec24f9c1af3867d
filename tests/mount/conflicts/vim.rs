//! vim, open on both sides of a conflict.

use super::*;

/// Vim on a file in a script; its commands `Pause` and `Save` are what they say.
fn vim(set: &str, file: &str, commands: &str) -> String {
    format!(
        "cat > $HOME/session.vim <<'END'
function! Pause()
  call writefile([], $HOME . '/ready')
  while delete($HOME . '/go') != 0
    sleep 10m
  endwhile
endfunction
command Pause call Pause()
{commands}
qa!
END
vim -N -es -u NONE -i NONE --cmd 'set swapfile directory=.' --cmd 'set {set}' -S $HOME/session.vim {file:?}
rm -f {backup:?}",
        backup = format!("{file}~"),
    )
}

const WAYS: [&str; 4] = [
    "backupcopy=auto",
    "backupcopy=no",
    "backupcopy=yes",
    "backup backupcopy=no",
];

#[test]
fn vim_open_on_both_sides_keeps_both() {
    needs!("vim");
    for set in WAYS {
        needs!(mount);
        let mut world = with_note("");
        let saves = "Pause
call setline(1, $USER . ' one')
w!
Pause
call setline(1, $USER . ' two')
w!";
        let mut vims = [("alice", 0), ("bob", 1)].map(|(user, side)| {
            let script = vim(
                set,
                "plan.md",
                &saves.replace("$USER", &format!("'{user}'")),
            );
            world.sides[side].begin(&script)
        });
        vims.iter_mut().for_each(Running::pause);
        vims.iter_mut().for_each(Running::go_on);
        world.settle_and_sync();
        world.wait_contents(&[b"alice one\n", b"bob one\n"]);
        // Each has seen what it saved itself, and replaces that.
        vims.into_iter().for_each(Running::end);
        world.settle_and_sync();
        world.wait_contents(&[b"alice two\n", b"bob two\n"]);
        world.remount();
        world.assert_blobs(2);
    }
}

#[test]
fn vim_saves_a_conflict_copy_twice_and_it_is_the_note() {
    needs!("vim");
    for set in WAYS {
        needs!(mount);
        let mut world = in_conflict();
        let copy = world.sides[0].conflict();
        let saves = "call setline(1, 'merged')
w!
Pause
call setline(1, 'merged better')
w!";
        let mut process = world.sides[0].begin(&vim(set, &copy, saves));
        process.pause();
        world.settle_and_sync();
        world.wait_contents(&[b"merged\n"]);
        process.end();
        assert_eq!(world.sides[0].list(), ["plan.md"], "{set}");
        world.settle_and_sync();
        world.wait_contents(&[b"merged better\n"]);
        assert_eq!(world.remount(), tree(&[("plan.md", b"merged better\n")]));
        world.assert_blobs(1);
    }
}

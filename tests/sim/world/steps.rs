//! The steps of a world: acts of people, work of syncers, accidents of machines.

use proptest::prelude::*;

use super::people;

/// Number of a device; of several things that one may mean, the nth, counted round.
pub type Nth = usize;

/// A file below an audience's directory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    Is(&'static str),
    /// One of those that were last listed there, conflict copies too.
    Listed(Nth),
}

/// Who does it and where: a device, a program on it, an area.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct By(pub Nth, pub u32, pub Nth);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    Read(By, At),
    /// Opens with O_CREAT and O_TRUNC, writes, closes.
    Write(By, At),
    /// Reads, then writes.
    Edit(By, At),
    Append(By, At),
    /// Writes the bytes that everybody writes by this step.
    WriteSame(By, At),
    /// Writes scratch and renames it over the file.
    Replace(By, At),
    /// Renames the file to a backup, writes it anew, removes the backup; so many parts of it.
    Vim(By, At, usize),
    Rename(By, At, &'static str),
    Remove(By, At),
    Mkdir(By, &'static str),
    Rmdir(By, &'static str),
    /// Opens a file for long: one for each program.
    Open(By, At, Trunc),
    /// Appends to the open file.
    Put(By),
    Close(By),
    Refresh(Nth),
    Settle(Nth),
    Remount(Nth),
    /// The process dies.
    Crash(Nth),
    /// Takes at most so many changes from the first device to the second, in some order.
    Sync(Nth, Nth, usize, u64),
    /// The first part of a file arrives, under its name or under a syncer's.
    Part(Nth, Nth, u64),
    /// A syncer forgets its index: all files are new to it.
    Forget(Nth),
    /// Makes a copy of a store.
    Copy(Nth),
    /// The copy takes the place of the store; the syncer notices, or has forgotten all.
    Restore(Nth, Forgets),
    /// A disk is lost, with the index of the syncer, and perhaps with the state of DDS.
    Lose(Nth, State),
    /// A device that was away brings the nth of all files that ever were.
    Return(Nth, Nth),
    Attack(Nth, Attack, Nth),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trunc {
    Keeps,
    Empties,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Forgets {
    Nothing,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    Kept,
    Lost,
}

/// What somebody with access to a store may put there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attack {
    /// A file again, under another name.
    OtherName,
    /// A file again, in the other folder.
    OtherFolder,
    /// Something for an area's members, signed by somebody nobody knows.
    Stranger,
    /// Something for an area's members, signed by somebody who is not among them.
    Outsider,
    /// A member's signature for the area, encrypted to somebody else.
    Forwarded,
    /// A document's id, path and older versions, in another audience or by another writer.
    StolenDocument,
    Garbage,
    Truncated,
}

/// The devices by their owners, how they are connected, and where people write.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub owners: Vec<&'static str>,
    pub links: Links,
    /// `notes/alice,bob`: all members, the writer too.
    pub areas: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Links {
    /// All to all.
    Mesh,
    /// By way of one more device, the last, that has no keys.
    Star,
}

const NAMES: [&str; 6] = ["a.md", "a.md", "a.md", "b.md", "d/a.md", "e/a.md"];

fn plan() -> impl Strategy<Value = Plan> {
    let owners = prop_oneof![
        3 => Just(vec![0, 1, 2]),
        2 => Just(vec![0, 0, 1]),
        2 => Just(vec![0, 1, 2, 3]),
        2 => Just(vec![0, 0, 1, 2]),
        1 => Just(vec![0, 1, 2, 3, 4]),
        1 => Just(vec![0, 0, 1, 1, 2]),
    ];
    let areas = prop::collection::vec((any::<bool>(), 1..32u8), 1..3);
    let links = prop_oneof![Just(Links::Mesh), Just(Links::Star)];
    (owners, links, areas).prop_map(|(owners, links, areas)| {
        let count = owners.iter().max().unwrap() + 1;
        let areas = areas.into_iter().map(|(notes, members)| {
            let mut members: Vec<usize> = (0..count).filter(|n| members & (1 << n) != 0).collect();
            // There are no messages to oneself.
            if members.is_empty() || (!notes && members.len() < 2) {
                members = vec![0, 1];
            }
            let names: Vec<_> = members.iter().map(|n| people::NAMES[*n]).collect();
            let folder = if notes { "notes" } else { "messages" };
            format!("{folder}/{}", names.join(","))
        });
        Plan {
            owners: owners.iter().map(|n| people::NAMES[*n]).collect(),
            links,
            areas: areas.collect(),
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let by =
        || (0..5usize, 0..2u32, 0..3usize).prop_map(|(peer, group, area)| By(peer, group, area));
    let name = || prop::sample::select(NAMES.to_vec());
    let at = || prop_oneof![2 => name().prop_map(At::Is), 1 => (0..4usize).prop_map(At::Listed)];
    let dir = || prop::sample::select(vec!["d", "e", "e/d"]);
    let writing = prop_oneof![
        3 => (by(), at()).prop_map(|(by, at)| Step::Read(by, at)),
        8 => (by(), at()).prop_map(|(by, at)| Step::Write(by, at)),
        8 => (by(), at()).prop_map(|(by, at)| Step::Edit(by, at)),
        2 => (by(), at()).prop_map(|(by, at)| Step::Append(by, at)),
        1 => (by(), at()).prop_map(|(by, at)| Step::WriteSame(by, at)),
        2 => (by(), at()).prop_map(|(by, at)| Step::Replace(by, at)),
        2 => (by(), at(), 1..5usize).prop_map(|(by, at, parts)| Step::Vim(by, at, parts)),
        3 => (by(), at(), name()).prop_map(|(by, at, to)| Step::Rename(by, at, to)),
        1 => (by(), dir(), dir()).prop_map(|(by, at, to)| Step::Rename(by, At::Is(at), to)),
        4 => (by(), at()).prop_map(|(by, at)| Step::Remove(by, at)),
        1 => (by(), dir()).prop_map(|(by, at)| Step::Mkdir(by, at)),
        1 => (by(), dir()).prop_map(|(by, at)| Step::Rmdir(by, at)),
    ];
    let trunc = || prop_oneof![Just(Trunc::Keeps), Just(Trunc::Empties)];
    let open = prop_oneof![
        2 => (by(), at(), trunc()).prop_map(|(by, at, trunc)| Step::Open(by, at, trunc)),
        2 => by().prop_map(Step::Put),
        1 => by().prop_map(Step::Close),
    ];
    let machine = prop_oneof![
        6 => (0..5usize).prop_map(Step::Refresh),
        2 => (0..5usize).prop_map(Step::Settle),
        1 => (0..5usize).prop_map(Step::Remount),
        3 => (0..5usize).prop_map(Step::Crash),
    ];
    let pair = || (0..6usize, 0..6usize);
    let most = || prop_oneof![2 => Just(100usize), 1 => 1..4usize];
    let sync = prop_oneof![
        8 => (pair(), most(), any::<u64>()).prop_map(|((a, b), most, order)| Step::Sync(a, b, most, order)),
        1 => (pair(), any::<u64>()).prop_map(|((a, b), order)| Step::Part(a, b, order)),
    ];
    let state = prop_oneof![Just(State::Kept), Just(State::Lost)];
    let forgets = prop_oneof![Just(Forgets::Nothing), Just(Forgets::All)];
    let trouble = prop_oneof![
        3 => (0..6usize).prop_map(Step::Forget),
        2 => (0..6usize).prop_map(Step::Copy),
        2 => (0..6usize, forgets).prop_map(|(n, forgets)| Step::Restore(n, forgets)),
        1 => (0..6usize, state).prop_map(|(n, state)| Step::Lose(n, state)),
        4 => (0..6usize, 0..60usize).prop_map(|(n, file)| Step::Return(n, file)),
        4 => (0..6usize, attack(), 0..60usize).prop_map(|(n, what, of)| Step::Attack(n, what, of)),
    ];
    prop_oneof![
        16 => writing,
        3 => open,
        8 => machine,
        14 => sync,
        3 => trouble,
    ]
}

fn attack() -> impl Strategy<Value = Attack> {
    prop::sample::select(vec![
        Attack::OtherName,
        Attack::OtherFolder,
        Attack::Stranger,
        Attack::Outsider,
        Attack::Forwarded,
        Attack::StolenDocument,
        Attack::Garbage,
        Attack::Truncated,
    ])
}

/// A world and its steps.
pub fn worlds() -> impl Strategy<Value = (Plan, Vec<Step>)> {
    (plan(), prop::collection::vec(step(), 1..80))
}

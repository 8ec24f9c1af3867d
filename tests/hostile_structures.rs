//! Blobs and certificates made by a generator of hostile structures: nothing that somebody puts
//! into the store costs much time or memory, delays anything else, or keeps a mount from being
//! locked.
//!
//! A `stat` of another file takes at most 50 ms meanwhile; that is tested where the machine has
//! nothing else to do (`DDS_TEST_FULL=1`), else that it takes no second.
//!
//! Each is made from a number, its seed; the numbers are 0 to 999 (`DDS_TEST_FULL=1`), or some of
//! them. A failure names the seed.

#[macro_use]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dds::contacts::Contacts;
use dds::ids::{BlobKind, Folder};
use dds::openpgp::Identity;
use dds::plaintext::{Budget, SpillArea};
use dds::state::State;
use dds::store::{FileName, MemoryStore};
use dds::vault::{self, ChangeReader, Changes, ThreadClock, Vault};
use pgp::parse::Parse as _;
use pgp::serialize::stream::{Compressor, Encryptor, Message, Recipient};
use pgp::types::{AEADAlgorithm, CompressionAlgorithm, Features, SymmetricAlgorithm};
use sequoia_openpgp as pgp;
use support::mount::wait_for;
use support::people::{Blob, Person};
use support::programs::full;
use support::rig::{Cast, Mounted, Rig as _};

/// Counts the bytes on the heap, and keeps the largest count.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// Heap that one blob or certificate may take for a while.
const MEMORY: usize = 64 << 20;
/// Processor time that it may take.
const TIME: Duration = Duration::from_secs(1);

/// The seeds of this run.
fn seeds(few: usize) -> impl Iterator<Item = u64> {
    let step = if full() { 1 } else { 1000 / few };
    (0..1000).step_by(step)
}

/// Numbers that look random and are the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// A number up to a limit, small as often as large.
    fn size(&mut self, limit: usize) -> usize {
        let bits = self.below(limit.ilog2() as usize + 1);
        self.below(limit.min(2 << bits)) + 1
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A packet with a length of four octets.
fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0xC0 | tag, 255], &length[..], body].concat()
}

/// A packet of any form: short and long lengths, the old format, parts, or a length that is a lie.
fn odd_packet(dice: &mut Dice, tag: u8, body: &[u8]) -> Vec<u8> {
    match dice.below(8) {
        0 if tag < 16 => [&[0x80 | tag << 2 | 3], body].concat(),
        1 if tag < 16 => {
            let length = u32::try_from(body.len()).unwrap().to_be_bytes();
            [&[0x80 | tag << 2 | 2], &length[..], body].concat()
        }
        2 => {
            // Many parts of one octet, or few larger ones.
            let exponent = *dice.pick(&[0_u8, 0, 1, 9, 12]);
            let mut out = vec![0xC0 | tag];
            let mut parts = body.chunks_exact(1 << exponent);
            for part in &mut parts {
                out.push(0xE0 | exponent);
                out.extend(part);
            }
            let rest = parts.remainder();
            out.push(255);
            out.extend(u32::try_from(rest.len()).unwrap().to_be_bytes());
            out.extend(rest);
            out
        }
        3 => {
            let lie = *dice.pick(&[u32::MAX, 1 << 30, 1 << 20, 65_537]);
            [&[0xC0 | tag, 255], &lie.to_be_bytes()[..], body].concat()
        }
        4 if body.len() < 192 => [&[0xC0 | tag, body.len() as u8], body].concat(),
        _ => packet(tag, body),
    }
}

/// A subpacket area of many small subpackets.
fn area(dice: &mut Dice, limit: usize) -> Vec<u8> {
    let bytes = dice.size(limit);
    let kind = *dice.pick(&[2_u8, 9, 16, 20, 23, 27, 33, 35, 100, 101]);
    let body: Vec<u8> = match kind {
        16 => vec![7; 8],
        33 | 35 => [&[4][..], &[7; 20]].concat(),
        20 => {
            let mut body = vec![0x80, 0, 0, 0, 0, 16, 0, 1];
            body.extend(b"path@dds.invalidx");
            body
        }
        _ => vec![0; dice.below(5)],
    };
    let one = [&[body.len() as u8 + 1, kind], &body[..]].concat();
    let mut area = one.repeat(bytes.div_ceil(one.len()));
    area.truncate(area.len() / one.len() * one.len());
    area.truncate(limit / one.len() * one.len());
    area
}

/// The body of a signature: of a known version or not, with few or many subpackets, with others
/// embedded in it.
fn signature(dice: &mut Dice, issuer: &[u8], depth: usize) -> Vec<u8> {
    let version = *dice.pick(&[4_u8, 4, 4, 6, 6, 3, 5, 9]);
    let typ = *dice.pick(&[0_u8, 1, 0x10, 0x13, 0x18, 0x19, 0x1F, 0x20, 0x28, 0x30]);
    let mut out = vec![
        version,
        typ,
        *dice.pick(&[1_u8, 17, 19, 22, 27]),
        *dice.pick(&[8_u8, 10]),
    ];
    let mut hashed = vec![5, 2, 0x60, 0, 0, 0];
    hashed.extend([22, 33, 4]);
    hashed.extend(&issuer[..20]);
    let limit = if version == 6 { 1 << 20 } else { 60_000 };
    if dice.below(2) == 0 {
        hashed.extend(area(dice, limit));
    }
    let mut unhashed = Vec::new();
    if depth > 0 {
        let embedded = signature(dice, issuer, depth - 1);
        if embedded.len() < 50_000 {
            unhashed.push(255);
            unhashed.extend(u32::try_from(embedded.len() + 1).unwrap().to_be_bytes());
            unhashed.push(32);
            unhashed.extend(embedded);
        }
    }
    for area in [hashed, unhashed] {
        match version {
            6 => out.extend(u32::try_from(area.len()).unwrap().to_be_bytes()),
            _ => out.extend((area.len() as u16).to_be_bytes()),
        }
        out.extend(area);
    }
    out.extend([0x61, 0x62]);
    if version == 6 {
        out.extend([16; 17]);
    }
    out.extend([0, 9, 1, 1, 0, 9, 1, 1]);
    out
}

fn one_pass(dice: &mut Dice) -> Vec<u8> {
    let version = *dice.pick(&[3_u8, 3, 3, 6, 9]);
    let mut body = vec![version, 0, 8, 22];
    body.extend([7; 8]);
    body.push(dice.below(2) as u8);
    body
}

fn literal(content: &[u8]) -> Vec<u8> {
    packet(11, &[b"b\0\0\0\0\0", content].concat())
}

/// A packet of any type with a body that may or may not fit.
fn any_packet(dice: &mut Dice, issuer: &[u8]) -> Vec<u8> {
    let tag = *dice.pick(&[
        2_u8, 4, 10, 11, 21, 1, 3, 8, 9, 12, 13, 17, 18, 20, 40, 60, 63,
    ]);
    let body = match tag {
        2 => {
            let depth = dice.below(4);
            signature(dice, issuer, depth)
        }
        4 => one_pass(dice),
        10 => b"PGP".to_vec(),
        11 => [b"b\0\0\0\0\0", &vec![b'x'; dice.size(1000)][..]].concat(),
        _ => vec![*dice.pick(&[0_u8, 1, 2, 3, 4, 6]); dice.size(1000)],
    };
    odd_packet(dice, tag, &body)
}

/// Compresses packets; returns the body of the packet.
fn packed(algorithm: CompressionAlgorithm, inside: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut message = Compressor::new(Message::new(&mut out))
        .algo(algorithm)
        .build()
        .unwrap();
    message.write_all(inside).unwrap();
    message.finalize().unwrap();
    // Its parts are put together again.
    let (mut body, mut at) = (Vec::new(), 1);
    loop {
        let (length, header, last) = match out[at] {
            octet @ 0..=191 => (usize::from(octet), 1, true),
            octet @ 192..=223 => {
                let high = usize::from(octet - 192) << 8;
                (high + usize::from(out[at + 1]) + 192, 2, true)
            }
            255 => {
                let length = u32::from_be_bytes(out[at + 1..at + 5].try_into().unwrap());
                (length as usize, 5, true)
            }
            octet => (1 << (octet & 0x1F), 1, false),
        };
        body.extend(&out[at + header..at + header + length]);
        at += header + length;
        if last {
            assert_eq!(at, out.len());
            return body;
        }
    }
}

/// Compressed data that never begins: blocks without content.
fn empty_blocks(count: usize) -> Vec<u8> {
    let mut body = vec![1];
    body.extend([0, 0, 0, 0xFF, 0xFF].repeat(count));
    body.extend([1, 0, 0, 0xFF, 0xFF]);
    body
}

/// What is inside the encryption.
fn inside(dice: &mut Dice, issuer: &[u8]) -> Vec<u8> {
    let mut inside = match dice.below(6) {
        // Very many packets of one kind.
        0 | 1 => {
            let unit = match dice.below(4) {
                0 => packet(10, b"PGP"),
                1 => packet(4, &one_pass(dice)),
                2 => packet(2, &[4, 0, 1, 8, 0, 0, 0, 0, b'a', b'b', 0, 1, 1]),
                _ => any_packet(dice, issuer),
            };
            unit.repeat(dice.size((16 << 20) / unit.len()))
        }
        // A mixture.
        2 => {
            let count = dice.size(100);
            let mixture: Vec<_> = (0..count).map(|_| any_packet(dice, issuer)).collect();
            mixture.concat()
        }
        // A content with many signatures around it.
        3 => {
            let count = dice.size(300);
            let ops: Vec<_> = (0..count).map(|_| packet(4, &one_pass(dice))).collect();
            let signatures: Vec<_> = (0..count)
                .map(|_| {
                    let signature = signature(dice, issuer, 1);
                    packet(2, &signature)
                })
                .collect();
            let content = vec![b'x'; dice.size(4 << 20)];
            [ops.concat(), literal(&content), signatures.concat()].concat()
        }
        // A packet that claims to be huge, and zeros.
        4 => {
            let tag = *dice.pick(&[2_u8, 4, 10, 11, 21, 60]);
            let head = [0xC0 | tag, 255, 0x7F, 0xFF, 0xFF, 0xFF];
            [&head[..], &vec![0; dice.size(16 << 20)]].concat()
        }
        _ => {
            let blocks = empty_blocks(dice.size(3 << 20));
            odd_packet(dice, 8, &blocks)
        }
    };
    for _ in 0..dice.below(5) {
        let algorithm = *dice.pick(&[
            CompressionAlgorithm::Zip,
            CompressionAlgorithm::Zip,
            CompressionAlgorithm::Zlib,
            CompressionAlgorithm::BZip2,
        ]);
        let mut body = vec![u8::from(algorithm)];
        let packed = packed(algorithm, &inside);
        body.extend(&packed[1..]);
        inside = odd_packet(dice, 8, &body);
        if dice.below(2) == 0 {
            inside = inside.repeat(dice.size((16 << 20) / inside.len().clamp(1, 16 << 20)));
        }
    }
    inside
}

/// Encrypts arbitrary bytes for somebody.
fn encrypt(to: &pgp::Cert, version_2: bool, inside: &[u8]) -> Vec<u8> {
    let policy = pgp::policy::StandardPolicy::new();
    let keys = to
        .keys()
        .with_policy(&policy, None)
        .for_storage_encryption();
    let features = Features::empty().set_seipdv1();
    let recipients = keys.map(|key| Recipient::new(features.clone(), None, key.key()));
    let mut out = Vec::new();
    let encryptor = Encryptor::for_recipients(Message::new(&mut out), recipients)
        .symmetric_algo(SymmetricAlgorithm::AES256);
    let encryptor = match version_2 {
        false => encryptor,
        true => encryptor.aead_algo(AEADAlgorithm::OCB),
    };
    let mut message = encryptor.build().unwrap();
    message.write_all(inside).unwrap();
    message.finalize().unwrap();
    out
}

/// A blob for somebody, of which a sender may have made anything.
fn blob(seed: u64, to: &pgp::Cert, issuer: &[u8]) -> Vec<u8> {
    let mut dice = Dice(seed);
    let inside = inside(&mut dice, issuer);
    let version_2 = dice.below(3) == 0;
    let mut blob = encrypt(to, version_2, &inside);
    // And something before it, which is not encrypted.
    match dice.below(5) {
        0 => {
            let unit = match dice.below(3) {
                0 => packet(10, b"PGP"),
                1 => packet(1, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 18, 1, 2, 3]),
                _ => any_packet(&mut dice, issuer),
            };
            let before = unit.repeat(dice.size((1 << 20) / unit.len().min(1 << 20)));
            blob.splice(0..0, before);
        }
        1 => {
            // The same session key packet again and again: each one is a try.
            let length = 2 + usize::from(blob[1]);
            if blob[1] < 192 {
                let first = blob[..length].to_vec();
                blob.splice(0..0, first.repeat(dice.size(2000)));
            }
        }
        _ => {}
    }
    blob
}

/// A file of certificates that somebody made of another's.
fn certificate(seed: u64, of: &[u8], issuer: &[u8]) -> Vec<u8> {
    let mut dice = Dice(seed);
    let packets = split(of);
    let mut out = Vec::new();
    let copies = if dice.below(4) == 0 {
        dice.size(200)
    } else {
        1
    };
    for _ in 0..copies {
        for packet in &packets {
            out.extend(packet);
            if dice.below(3) > 0 {
                continue;
            }
            let unit = match dice.below(9) {
                // The certificate's own parts, good as they are, again and again.
                0 | 1 => dice.pick(&packets).clone(),
                2 => {
                    let depth = dice.below(6);
                    let signature = signature(&mut dice, issuer, depth);
                    odd_packet(&mut dice, 2, &signature)
                }
                3 => {
                    let id = vec![b'x'; dice.size(10_000)];
                    odd_packet(&mut dice, 13, &id)
                }
                4 => {
                    let image = vec![1; dice.size(100_000)];
                    odd_packet(&mut dice, 17, &image)
                }
                // A subkey with numbers of all lengths.
                5 => {
                    let bits = dice.size(65_535);
                    let mut key = vec![*dice.pick(&[4_u8, 4, 3, 5, 6, 9]), 0x60, 0, 0, 0, 1];
                    for _ in 0..2 {
                        key.extend((bits as u16).to_be_bytes());
                        key.push(1 << ((bits - 1) % 8));
                        key.extend(vec![0xFF; bits.div_ceil(8) - 1]);
                    }
                    odd_packet(&mut dice, 14, &key)
                }
                6 => packed_packet(&mut dice),
                _ => any_packet(&mut dice, issuer),
            };
            let most = (900_000 / copies / unit.len()).clamp(1, 20_000);
            out.extend(unit.repeat(dice.size(most)));
        }
    }
    out.truncate(1_000_000);
    out
}

fn packed_packet(dice: &mut Dice) -> Vec<u8> {
    let mut body = vec![1];
    let zeros = vec![0; dice.size(16 << 20)];
    body.extend(&packed(CompressionAlgorithm::Zip, &zeros)[1..]);
    odd_packet(dice, 8, &body)
}

/// The packets of a certificate that the library wrote.
fn split(certificate: &[u8]) -> Vec<Vec<u8>> {
    use pgp::serialize::SerializeInto as _;
    let pile = pgp::PacketPile::from_bytes(certificate).unwrap();
    let packets = pile.into_children();
    packets.map(|packet| packet.to_vec().unwrap()).collect()
}

/// A vault in this process, which does everything on the thread that asks.
struct Opening {
    store: Arc<MemoryStore>,
    vault: Vault,
    me: Person,
    bob: Person,
    _spill: tempfile::TempDir,
}

impl Opening {
    fn new() -> Opening {
        let [me, bob] = ["Alice", "Bob"].map(Person::new);
        let store = Arc::new(MemoryStore::new());
        for (name, person) in [("one.gpg", &me), ("two.gpg", &bob)] {
            let name = FileName::new(name).unwrap();
            store.arrive_key(&name, &person.certificate().to_bytes());
        }
        let identities = vec![Identity::unlock(&me.secret, None).unwrap()];
        let spill = tempfile::tempdir().unwrap();
        std::fs::set_permissions(spill.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let options = vault::Options {
            spill: Some(SpillArea::open(spill.path(), Budget::default()).unwrap()),
            ..vault::Options::default()
        };
        let (state, contacts) = (State::in_memory(), Contacts::in_memory());
        let vault = Vault::open(
            Arc::clone(&store) as _,
            state,
            identities,
            contacts,
            options,
        );
        Opening {
            store,
            vault: vault.unwrap(),
            me,
            bob,
            _spill: spill,
        }
    }

    /// Looks at the files that arrived. Returns the processor time and the memory that this took.
    fn cost(&self) -> (Duration, usize) {
        let clock = ThreadClock::of_this_thread().unwrap();
        let before = NOW.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let begun = clock.read().unwrap();
        self.vault.refresh().unwrap();
        let time = clock.read().unwrap() - begun;
        (time, PEAK.load(Ordering::Relaxed).saturating_sub(before))
    }
}

/// The most costly of many, by name.
#[derive(Default)]
struct Worst(Duration, usize, Vec<String>);

impl Worst {
    fn note(&mut self, what: &str, (time, memory): (Duration, usize)) {
        if time > TIME || memory > MEMORY {
            self.2
                .push(format!("{what}: {time:?}, {} MiB", memory >> 20));
        }
        self.0 = self.0.max(time);
        self.1 = self.1.max(memory);
    }

    fn check(&self) {
        let most = format!("at most {:?} and {} MiB", self.0, self.1 >> 20);
        assert!(self.2.is_empty(), "{most}: {:#?}", self.2);
    }
}

/// One test, as memory is counted for the whole process.
#[test]
fn nothing_in_the_store_costs_more_than_a_second_or_64_mib() {
    let scene = Opening::new();
    let to = pgp::Cert::from_bytes(&scene.me.certificate().to_bytes()).unwrap();
    let bob = scene.bob.certificate().to_bytes();
    let issuer = scene.bob.fingerprint();
    let mut worst = Worst::default();
    let name = FileName::new("hostile.asc").unwrap();
    for seed in seeds(250) {
        let blob = blob(seed, &to, issuer.as_bytes());
        scene.store.arrive(Folder::Messages, &name, &blob);
        worst.note(&format!("blob {seed}, {} bytes", blob.len()), scene.cost());
    }
    let name = FileName::new("hostile.gpg").unwrap();
    for seed in seeds(250) {
        let certificate = certificate(seed, &bob, issuer.as_bytes());
        scene.store.arrive_key(&name, &certificate);
        let what = format!("certificate {seed}, {} bytes", certificate.len());
        worst.note(&what, scene.cost());
    }
    // And the honest message is still read.
    let to = [&scene.me, &scene.bob];
    let lunch = Blob::new(BlobKind::Message, &scene.bob, &to, "lunch.txt").content(b"at noon?");
    let name = FileName::new("lunch.asc").unwrap();
    scene.store.arrive(Folder::Messages, &name, &lunch.seal());
    scene.vault.refresh().unwrap();
    let Changes::Changed(changes) = scene.vault.changes(&mut ChangeReader::default()) else {
        panic!("the log of changes is longer than that");
    };
    let shown = changes.into_iter().any(|(_, document)| {
        let heads = document
            .map(|document| document.heads())
            .unwrap_or_default();
        heads
            .iter()
            .any(|head| head.version.path.as_deref() == Some(b"lunch.txt"))
    });
    assert!(shown, "the honest message");
    worst.check();
}

/// How long a look at a name may take while hostile files arrive: one that is there, and one that
/// may be among the arrivals.
fn promptly(is_there: bool) -> Duration {
    if full() && is_there {
        Duration::from_millis(50)
    } else {
        Duration::from_secs(1)
    }
}

/// Names that are there, that may be there, and that are not there.
const OTHERS: [&str; 3] = ["notes/me/kept.txt", "messages/bob", "messages/nobody"];

#[test]
fn nothing_that_arrives_delays_a_look_at_something_else() {
    needs!(mount);
    let cast = Cast::new();
    let mut rig = Mounted::new(&cast, "");
    let to = pgp::Cert::from_bytes(&cast.me.certificate().to_bytes()).unwrap();
    let bob = cast.bob.certificate().to_bytes();
    let issuer = cast.bob.fingerprint();
    rig.write("notes/me/kept.txt", b"kept").unwrap();
    rig.settle();
    // What was late, if anything.
    let look = |rig: &Mounted, seed: u64| {
        let mut late = None;
        for name in OTHERS {
            let begun = Instant::now();
            let found = rig.mount().path(name).symlink_metadata();
            let took = begun.elapsed();
            let there = found.is_ok();
            assert_eq!(there, name != "messages/nobody", "{name}, seed {seed}");
            if took >= promptly(there) {
                late = Some(format!("{name}, seed {seed}: {took:?}"));
            }
        }
        late
    };
    for seed in seeds(40) {
        let (folder, bytes) = match seed % 4 {
            0 => (
                "keys/hostile.gpg",
                certificate(seed, &bob, issuer.as_bytes()),
            ),
            1 => ("notes/hostile.asc", blob(seed, &to, issuer.as_bytes())),
            _ => ("messages/hostile.asc", blob(seed, &to, issuer.as_bytes())),
        };
        let temporary = rig.store().join(".syncthing.hostile.tmp");
        // What is late for another reason, as other programs at work, is not late three times.
        let late = (0..3).map_while(|_| {
            std::fs::write(&temporary, &bytes).unwrap();
            std::fs::rename(&temporary, rig.store().join(folder)).unwrap();
            (0..5).find_map(|_| look(&rig, seed))
        });
        let late: Vec<_> = late.collect();
        assert!(late.len() < 3, "{late:?}");
    }
    // At any moment it can be locked: while all of that is read, and while a new mount begins.
    for seed in 0..40 {
        let blob = blob(seed, &to, issuer.as_bytes());
        let file = format!("messages/hostile{seed}.asc");
        std::fs::write(rig.store().join(file), blob).unwrap();
    }
    assert_eq!(look(&rig, 1000), None);
    rig.end_by(libc::SIGTERM);
    let mut command = rig.home.dds_mount();
    let mountpoint = rig.home.path("secure");
    command.arg("--store").arg(rig.store()).arg("--foreground");
    let mut daemon = command.arg(&mountpoint).spawn().unwrap();
    wait_for("it is mounted", || {
        mountpoint.join(".dds").symlink_metadata().is_ok()
    });
    let pid = libc::pid_t::try_from(daemon.id()).unwrap();
    // SAFETY: the process is a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    wait_for("it is locked", || daemon.try_wait().unwrap().is_some());
    assert!(daemon.wait().unwrap().success());
    rig.start();
    assert_eq!(rig.read("notes/me/kept.txt").unwrap(), b"kept");
}

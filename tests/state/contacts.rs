//! The rules of pins and names, one test each, through the public interface.

use crate::claims::*;
use dds::contacts::{Claimed, ClaimedUserId, Contacts, Notice, Trust};
use dds::error::Kind;

#[test]
fn newcomers_are_pinned_unverified_on_first_sight() {
    let mut contacts = Contacts::in_memory();
    let notices = see(&mut contacts, &[cert(1, &["Alice@Example.org"])]);
    assert_eq!(
        notices,
        [Notice::Pinned {
            name: name("alice"),
            fingerprint: fpr(1)
        }]
    );
    let alice = contacts.by_name("alice").unwrap();
    assert_eq!(alice.fingerprint, fpr(1));
    assert_eq!(
        (alice.since, alice.verified, alice.frozen),
        (1000, false, false)
    );
    assert_eq!(alice.addresses, ["alice@example.org"]);
    assert_eq!(contacts.certificate(&fpr(1)), Some(&[1, 1, 1][..]));
    assert_eq!(contacts.certificate(&fpr(2)), None);
    assert!(see(&mut contacts, &[cert(1, &["alice@example.org"])]).is_empty());
}

#[test]
fn my_own_certificates_are_never_contacts() {
    let mut contacts = Contacts::in_memory();
    let seen = [cert(1, &["i@example.org"]), cert(2, &["bob@example.org"])];
    let notices = contacts.observe(&seen, &[fpr(1)], &[], Trust::FirstSight, 0);
    assert_eq!(notices.unwrap().len(), 1);
    assert_eq!(listed(&contacts), ["bob"]);
}

#[test]
fn who_claims_my_address_is_frozen() {
    let mut contacts = Contacts::in_memory();
    let seen = [cert(9, &["i@example.org"]), cert(2, &["I@example.org"])];
    let notices = contacts.observe(&seen, &[fpr(9)], &[], Trust::FirstSight, 0);
    assert_eq!(notices.unwrap().len(), 2);
    assert_eq!(listed(&contacts), ["i-02020202!"]);
}

#[test]
fn who_claims_my_address_and_a_contact_s_freezes_only_itself() {
    let mut contacts = Contacts::in_memory();
    see(&mut contacts, &[cert(1, &["bob@example.org"])]);
    let seen = [
        cert(9, &["i@example.org"]),
        cert(1, &["bob@example.org"]),
        cert(2, &["i@example.org", "bob@example.org"]),
    ];
    contacts
        .observe(&seen, &[fpr(9)], &[], Trust::FirstSight, 0)
        .unwrap();
    assert_eq!(listed(&contacts), ["bob", "i-02020202!"]);
}

#[test]
fn who_claims_the_address_of_a_contact_waits_and_the_contact_does_not() {
    let mut contacts = Contacts::in_memory();
    see(&mut contacts, &[cert(5, &["bob@example.org"])]);
    let notices = see(
        &mut contacts,
        &[cert(5, &["bob@example.org"]), cert(1, &["BOB@example.org"])],
    );
    assert_eq!(listed(&contacts), ["bob", "bob-01010101!"]);
    assert_eq!(contacts.by_name("bob").unwrap().fingerprint, fpr(5));
    let disputed = Notice::Disputed {
        claimant: fpr(1),
        address: "bob@example.org".to_owned(),
        frozen: vec![name("bob-01010101")],
    };
    assert!(notices.contains(&disputed));
    let bob = contacts.by_address("Bob@Example.ORG").unwrap();
    assert_eq!(bob.name, name("bob"));
    // What was said is not said again.
    let both = [cert(5, &["bob@example.org"]), cert(1, &["bob@example.org"])];
    assert!(see(&mut contacts, &both).is_empty());
    assert_eq!(listed(&contacts), ["bob", "bob-01010101!"]);

    // A person may decide for the newcomer, who has the address then.
    contacts.trust(&name("bob-01010101")).unwrap();
    assert_eq!(listed(&contacts), ["bob", "bob-01010101"]);
    let now = contacts.by_address("bob@example.org").unwrap();
    assert_eq!(now.name, name("bob-01010101"));
}

#[test]
fn one_newcomer_with_everybody_s_address_freezes_nobody_however_often_it_comes() {
    let mut contacts = Contacts::in_memory();
    let all = ["alice@x.org", "bob@x.org", "carol@x.org"];
    let people: Vec<Claimed> = (1..).zip(all).map(|(n, one)| cert(n, &[one])).collect();
    see(&mut contacts, &people);
    for n in 100..110 {
        let mut seen = people.clone();
        seen.push(cert(n, &all));
        see(&mut contacts, &seen);
        see(&mut contacts, &people);
    }
    let frozen: Vec<_> = contacts.iter().filter(|c| c.frozen).collect();
    assert_eq!(frozen.len(), 10);
    for one in ["alice", "bob", "carol"] {
        assert!(!contacts.by_name(one).unwrap().frozen);
        let address = format!("{one}@x.org");
        assert_eq!(contacts.by_address(&address).unwrap().name, name(one));
    }
}

#[test]
fn a_verified_pin_is_unaffected_by_who_claims_its_address() {
    let mut contacts = Contacts::in_memory();
    see(&mut contacts, &[cert(5, &["bob@example.org"])]);
    contacts.trust(&name("bob")).unwrap();
    contacts.rename(&name("bob"), &name("robert"), &[]).unwrap();
    see(&mut contacts, &[cert(1, &["bob@example.org"])]);
    // Frozen, and never under the plain name, even if that is free.
    assert_eq!(listed(&contacts), ["bob-01010101!", "robert"]);
    assert_eq!(
        contacts.by_address("bob@example.org").unwrap().name,
        name("robert")
    );
}

#[test]
fn two_newcomers_with_one_address_are_both_frozen_in_any_order() {
    let (a, b) = (cert(1, &["bob@example.org"]), cert(2, &["bob@example.org"]));
    for seen in [[a.clone(), b.clone()], [b, a]] {
        let mut contacts = Contacts::in_memory();
        see(&mut contacts, &seen);
        assert_eq!(listed(&contacts), ["bob!", "bob-02020202!"]);
        assert_eq!(contacts.by_name("bob").unwrap().fingerprint, fpr(1));
    }
}

#[test]
fn a_contact_that_claims_anothers_address_later_does_not_get_it() {
    let bob = cert(1, &["bob@example.org"]);
    for verified in [false, true] {
        let mut contacts = Contacts::in_memory();
        see(
            &mut contacts,
            &[bob.clone(), cert(2, &["mallory@example.org"])],
        );
        if verified {
            contacts.trust(&name("mallory")).unwrap();
        }
        let claims = ["mallory@example.org", "bob@example.org", "m@example.org"];
        let seen = [bob.clone(), cert(2, &claims)];
        for _ in 0..2 {
            // As long as the certificate says so, it is told.
            let contested = Notice::Contested {
                name: name("mallory"),
                address: "bob@example.org".to_owned(),
                holder: Some(name("bob")),
            };
            assert_eq!(see(&mut contacts, &seen), [contested]);
        }
        assert_eq!(listed(&contacts), ["bob", "mallory"]);
        let mallory = contacts.by_name("mallory").unwrap();
        assert_eq!(mallory.addresses, ["m@example.org", "mallory@example.org"]);
        let bob = contacts.by_address("bob@example.org").unwrap();
        assert_eq!(bob.name, name("bob"));
    }
}

#[test]
fn a_certificate_that_names_nobody_is_no_newcomer_until_it_does() {
    let mut contacts = Contacts::in_memory();
    let nameless: Vec<Claimed> = (1..=70).map(|n| cert(n, &[])).collect();
    assert!(see(&mut contacts, &nameless).is_empty());
    assert_eq!(contacts.iter().count(), 0);
    see(&mut contacts, &[cert(1, &["bob@example.org"])]);
    assert_eq!(listed(&contacts), ["bob"]);
}

#[test]
fn who_was_called_by_the_fingerprint_gets_the_name_that_the_certificate_has_now() {
    let mut contacts = Contacts::in_memory();
    let mut unnameable = cert(1, &[]);
    unnameable.user_ids.push(ClaimedUserId::default());
    see(&mut contacts, std::slice::from_ref(&unnameable));
    let by_fingerprint = format!("fpr-{}", "01".repeat(20));
    assert_eq!(listed(&contacts), [by_fingerprint.as_str()]);
    assert!(see(&mut contacts, &[unnameable]).is_empty());
    let named = Notice::Named {
        from: name(&by_fingerprint),
        name: name("bob"),
    };
    let seen = [cert(1, &["bob@example.org"])];
    assert_eq!(see(&mut contacts, &seen), [named]);
    assert_eq!(listed(&contacts), ["bob"]);
    // A name that a person gave stays.
    contacts.rename(&name("bob"), &name("robert"), &[]).unwrap();
    assert!(see(&mut contacts, &seen).is_empty());
    assert_eq!(listed(&contacts), ["robert"]);
}

#[test]
fn a_taken_name_alone_freezes_nobody() {
    let mut contacts = Contacts::in_memory();
    let seen = [
        cert(1, &["bob@a.org"]),
        cert(2, &["bob@b.org"]),
        cert(3, &["Friends@a.org"]),
        cert(4, &["me@a.org"]),
    ];
    let groups = [name("friends")];
    contacts
        .observe(&seen, &[], &groups, Trust::FirstSight, 0)
        .unwrap();
    let names = ["bob", "bob-02020202", "friends-03030303", "me-04040404"];
    assert_eq!(listed(&contacts), names);
}

#[test]
fn addresses_are_looked_up_for_exactly_one_contact() {
    let mut contacts = Contacts::in_memory();
    let mut odd = cert(1, &["alice@example.org", "a b@c", "x@y@z", "Al@Other.org"]);
    odd.user_ids.push(ClaimedUserId::default());
    see(&mut contacts, &[odd, cert(2, &["bob@example.org"])]);
    let alice = contacts.by_name("alice").unwrap();
    assert_eq!(alice.addresses, ["al@other.org", "alice@example.org"]);
    assert_eq!(contacts.by_address("AL@other.ORG"), Some(alice));
    assert_eq!(contacts.by_address("x@y@z"), None);
    assert_eq!(contacts.by_address(""), None);
}

#[test]
fn a_flood_of_addresses_is_cut_off() {
    let mut contacts = Contacts::in_memory();
    let many: Vec<String> = (0..10_000).map(|n| format!("a{n}@example.org")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    see(&mut contacts, &[cert(1, &many)]);
    see(&mut contacts, &[cert(1, &many[50..])]);
    assert_eq!(contacts.by_name("a0").unwrap().addresses.len(), 32);
}

#[test]
fn at_most_64_contacts_are_pinned_on_first_sight() {
    let mut contacts = Contacts::in_memory();
    let seen: Vec<Claimed> = (1..=70)
        .map(|n| cert(n, &[&format!("user{n}@example.org")]))
        .collect();
    let notices = see(&mut contacts, &seen);
    assert_eq!(contacts.iter().count(), 64);
    assert_eq!(notices.last(), Some(&Notice::TooMany { left_out: 6 }));
    assert!(contacts.by_fingerprint(&fpr(65)).is_none());
    // An explicit act still can.
    contacts.pin(&seen[64], None, &[], 0).unwrap();
    assert!(contacts.by_name("user65").unwrap().verified);
    assert_eq!(contacts.iter().count(), 65);
}

#[test]
fn contacts_that_were_never_used_make_room_for_a_newcomer_oldest_first() {
    let mut contacts = Contacts::in_memory();
    let people: Vec<Claimed> = (1..=64)
        .map(|n| cert(n, &[&format!("user{n}@example.org")]))
        .collect();
    for (n, one) in (0..).zip(&people) {
        let seen = std::slice::from_ref(one);
        contacts
            .observe(seen, &[], &[], Trust::FirstSight, n)
            .unwrap();
    }
    contacts.note_used([&fpr(1)]).unwrap();
    contacts.trust(&name("user2")).unwrap();
    let newcomer = cert(100, &["alice@example.org"]);
    let mut seen = people.clone();
    seen.push(newcomer.clone());
    let notices = see(&mut contacts, &seen);
    let gone = Notice::MadeRoom {
        gone: vec![name("user3")],
    };
    assert!(notices.contains(&gone), "{notices:?}");
    assert_eq!(contacts.iter().count(), 64);
    assert!(contacts.by_name("alice").is_some() && contacts.by_name("user3").is_none());
    assert_eq!(contacts.by_name("user1").unwrap().fingerprint, fpr(1));
    // Whoever made room does not take it back, so that it does not go round for ever.
    assert_eq!(see(&mut contacts, &seen), [Notice::TooMany { left_out: 1 }]);
    assert!(contacts.by_name("alice").is_some() && contacts.by_name("user3").is_none());
}

#[test]
fn a_flood_of_newcomers_takes_nobody_s_room() {
    let mut contacts = Contacts::in_memory();
    let alice = cert(250, &["alice@example.org"]);
    see(&mut contacts, std::slice::from_ref(&alice));
    let mut flood: Vec<Claimed> = (1..=200)
        .map(|n| cert(n, &[&format!("user{n}@example.org")]))
        .collect();
    flood.push(alice);
    for _ in 0..3 {
        see(&mut contacts, &flood);
        assert_eq!(contacts.iter().count(), 64);
        assert_eq!(contacts.by_name("alice").unwrap().fingerprint, fpr(250));
    }
}

#[test]
fn explicit_trust_pins_nobody_by_itself() {
    let mut contacts = Contacts::in_memory();
    let bob = cert(1, &["bob@example.org"]);
    let seen = std::slice::from_ref(&bob);
    for _ in 0..2 {
        let notices = contacts.observe(seen, &[], &[], Trust::Explicit, 0);
        let expected = Notice::NotPinned {
            fingerprint: fpr(1),
            name: name("bob"),
        };
        assert_eq!(notices.unwrap(), [expected]);
    }
    assert_eq!(contacts.pin(&bob, None, &[], 7).unwrap(), name("bob"));
    let pinned = contacts.by_name("bob").unwrap();
    assert!(pinned.verified && pinned.since == 7);
    assert!(contacts.certificate(&fpr(1)).is_some());
    let notices = contacts.observe(seen, &[], &[], Trust::Explicit, 0);
    assert!(notices.unwrap().is_empty());
}

#[test]
fn pinning_by_name_respects_names_and_former_certificates() {
    let mut contacts = Contacts::in_memory();
    see(&mut contacts, &[cert(1, &["bob@example.org"])]);
    let carol = cert(2, &["carol@example.org"]);
    for taken in ["bob", "BOB", "friends"] {
        let result = contacts.pin(&carol, Some(&name(taken)), &[name("Friends")], 0);
        assert_eq!(result.unwrap_err().kind(), Kind::Exists, "{taken}");
    }
    contacts.pin(&carol, Some(&name("Caro")), &[], 0).unwrap();
    assert_eq!(contacts.by_name("Caro").unwrap().fingerprint, fpr(2));
    contacts.succeed(&name("bob"), &name("Caro")).unwrap();
    let former = contacts.pin(&cert(1, &[]), None, &[], 0);
    assert_eq!(former.unwrap_err().kind(), Kind::Busy);
}

#[test]
fn pinning_again_confirms_and_may_rename() {
    let mut contacts = Contacts::in_memory();
    let both = [cert(1, &["bob@example.org"]), cert(2, &["bob@example.org"])];
    see(&mut contacts, &both);
    contacts
        .pin(&both[1], Some(&name("robert")), &[], 0)
        .unwrap();
    assert_eq!(listed(&contacts), ["bob!", "robert"]);
    assert_eq!(
        contacts.by_address("bob@example.org").unwrap().name,
        name("robert")
    );
}

#[test]
fn a_successor_receives_and_the_former_certificate_still_names() {
    let mut contacts = Contacts::in_memory();
    let (old, new) = (cert(5, &["bob@example.org"]), cert(1, &["bob@example.org"]));
    see(&mut contacts, &[old]);
    see(&mut contacts, std::slice::from_ref(&new));
    contacts
        .succeed(&name("bob"), &name("bob-01010101"))
        .unwrap();
    assert_eq!(listed(&contacts), ["bob"]);
    let bob = contacts.by_name("bob").unwrap();
    assert_eq!((&bob.fingerprint, &bob.past), (&fpr(1), &vec![fpr(5)]));
    assert!(bob.verified);
    assert_eq!(contacts.by_fingerprint(&fpr(5)), contacts.by_name("bob"));
    assert!(contacts.certificate(&fpr(5)).is_some());
    // The former certificate is no newcomer, whatever it claims.
    assert!(see(&mut contacts, &[cert(5, &["eve@example.org"]), new]).is_empty());
    assert!(contacts.succeed(&name("bob"), &name("bob")).is_err());
    assert!(contacts.succeed(&name("bob"), &name("eve")).is_err());
    assert_eq!(listed(&contacts), ["bob"]);
}

#[test]
fn renaming_respects_names_that_are_taken() {
    let mut contacts = Contacts::in_memory();
    see(
        &mut contacts,
        &[cert(1, &["bob@a.org"]), cert(2, &["carol@a.org"])],
    );
    let mut rename = |from: &str, to: &str| {
        let result = contacts.rename(&name(from), &name(to), &[name("friends")]);
        result.map_err(|error| error.kind())
    };
    assert_eq!(rename("bob", "Carol"), Err(Kind::Exists));
    assert_eq!(rename("bob", "friends"), Err(Kind::Exists));
    assert_eq!(rename("eve", "dave"), Err(Kind::NotFound));
    assert_eq!(rename("bob", "Bob"), Ok(()));
    assert_eq!(rename("Bob", "robert"), Ok(()));
    assert_eq!(contacts.by_name("robert").unwrap().name, name("robert"));
    assert!(contacts.by_name("bob").is_none());
}

#[test]
fn one_certificate_in_several_files_is_one_contact() {
    let mut contacts = Contacts::in_memory();
    see(
        &mut contacts,
        &[cert(1, &["bob@a.org"]), cert(1, &["bob@b.org"])],
    );
    let bob = contacts.by_name("bob").unwrap();
    assert_eq!(bob.addresses, ["bob@a.org", "bob@b.org"]);
    assert_eq!(listed(&contacts), ["bob"]);
}

#[test]
fn notices_are_sentences() {
    let mut contacts = Contacts::in_memory();
    see(&mut contacts, &[cert(1, &["bob@a.org"])]);
    let notices = see(
        &mut contacts,
        &[cert(1, &["bob@a.org"]), cert(2, &["bob@a.org"])],
    );
    assert_eq!(
        notices[1].to_string(),
        "the certificate 0202020202020202020202020202020202020202 claims bob@a.org, which \
         another certificate has: frozen until you decide in contacts.toml: bob-02020202"
    );
    for notice in notices {
        assert!(!notice.to_string().contains(['\n', '\x1b']));
    }
}

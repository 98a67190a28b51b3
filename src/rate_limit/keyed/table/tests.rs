//! What is known, what is forgotten, and when; hashes are made up.

use super::*;

type Names = Table<&'static str, u32>;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

/// Adds a key that is not known, or asks for the value of one that is.
fn put(table: &mut Names, hash: u64, key: &'static str, value: u32, now: Instant) -> u32 {
    *table.get_or_insert((hash, key), now, || value, &mut Vec::new())
}

/// What is forgotten in order to make room; values say from which second on they are idle, and
/// 99 that they are in use.
fn room(table: &mut Names, now: Instant) -> (Result<(), Duration>, Vec<&'static str>) {
    let (mut forgotten, mut values) = (Vec::new(), Vec::new());
    let idle = |value: &u32| (*value != 99).then(|| at(u64::from(*value)));
    let result = table.make_room(now, idle, &mut forgotten, &mut values);
    assert_eq!(forgotten.len(), values.len());
    forgotten.sort_unstable();
    (result, forgotten)
}

#[test]
fn a_key_is_remembered_once_and_what_was_not_needed_comes_out() {
    let mut table = Names::new(9);
    let mut forgotten = Vec::new();
    assert_eq!(table.get(1, "a"), None);
    let fresh = *table.get_or_insert((1, "a"), at(0), || 7, &mut forgotten);
    assert_eq!((fresh, forgotten.len()), (7, 0));
    let known = *table.get_or_insert((1, "a"), at(0), || 8, &mut forgotten);
    assert_eq!((known, &forgotten[..]), (7, &["a"][..]));
    assert_eq!((table.get(1, "a"), table.len()), (Some(&7), 1));
    assert_eq!((table.get(1, "b"), table.get(2, "a")), (None, None));
}

#[test]
fn keys_with_one_hash_have_a_value_each() {
    let mut table = Names::new(9);
    let mut forgotten = Vec::new();
    for (hash, key, value) in [(1, "a", 1), (1, "b", 2), (1, "c", 3), (2, "x", 4)] {
        assert_eq!(put(&mut table, hash, key, value, at(0)), value);
    }
    for (hash, key, value) in [(1, "a", 1), (1, "b", 2), (1, "c", 3), (2, "x", 4)] {
        assert_eq!(table.get(hash, key), Some(&value));
        let known = *table.get_or_insert((hash, key), at(0), || 99, &mut forgotten);
        assert_eq!(known, value);
    }
    assert_eq!(forgotten, ["a", "b", "c", "x"]);
    assert_eq!((table.get(1, "d"), table.get(2, "b")), (None, None));
    assert_eq!(put(&mut table, 2, "b", 5, at(0)), 5, "it is another one");
    assert_eq!((table.len(), table.get(1, "b")), (5, Some(&2)));
    let mut values = Vec::new();
    table.for_each(&mut |value| values.push(*value));
    values.sort_unstable();
    assert_eq!(values, [1, 2, 3, 4, 5]);
}

#[test]
fn while_there_is_room_a_key_is_forgotten_a_while_after_it_is_idle() {
    let mut table = Names::new(9);
    put(&mut table, 1, "a", 3, at(0));
    assert_eq!(room(&mut table, at(9)), (Ok(()), vec![]));
    assert_eq!(table.order.first(), Some(&(at(0), 1)), "nobody has looked");
    assert_eq!(room(&mut table, at(10)), (Ok(()), vec![]));
    assert_eq!(
        table.order.first(),
        Some(&(at(3), 1)),
        "it is idle from then on"
    );
    assert_eq!(room(&mut table, at(12)), (Ok(()), vec![]));
    assert_eq!(room(&mut table, at(13)), (Ok(()), vec!["a"]));
    assert_eq!((table.len(), table.order.len()), (0, 0));
}

#[test]
fn while_there_is_room_two_are_looked_at() {
    let mut table = Names::new(9);
    for (hash, key) in [(1, "a"), (2, "b"), (3, "c")] {
        put(&mut table, hash, key, 0, at(0));
    }
    assert_eq!(room(&mut table, at(60)), (Ok(()), vec!["a", "b"]));
    assert_eq!(room(&mut table, at(60)), (Ok(()), vec!["c"]));
}

#[test]
fn without_room_those_that_are_idle_go_at_once_until_there_is_some() {
    let mut table = Names::new(3);
    for (hash, key) in [(1, "a"), (2, "b"), (3, "c")] {
        put(&mut table, hash, key, 2, at(0));
    }
    assert_eq!(room(&mut table, at(1)), (Err(SECOND), vec![]));
    assert_eq!(room(&mut table, at(2)), (Ok(()), vec!["a"]));
    assert_eq!(table.len(), 2);
}

#[test]
fn a_key_in_use_is_looked_at_again_in_a_second_and_never_forgotten() {
    let mut table = Names::new(1);
    put(&mut table, 1, "a", 99, at(0));
    for now in 0..5 {
        assert_eq!(room(&mut table, at(now)), (Err(SECOND), vec![]), "at {now}");
    }
    let half = Instant::from_nanos(4_500_000_000);
    assert_eq!(room(&mut table, half), (Err(SECOND / 2), vec![]));
}

#[test]
fn keys_with_one_hash_are_forgotten_together_when_all_are_idle() {
    for values in [[1, 5, 1], [5, 1, 1], [1, 1, 5]] {
        let mut table = Names::new(3);
        for (key, value) in ["a", "b", "c"].into_iter().zip(values) {
            put(&mut table, 1, key, value, at(0));
        }
        assert_eq!(room(&mut table, at(2)), (Err(3 * SECOND), vec![]));
        assert_eq!(room(&mut table, at(5)), (Ok(()), vec!["a", "b", "c"]));
    }
    let mut table = Names::new(3);
    for (hash, key, value) in [(1, "a", 1), (2, "x", 50), (2, "y", 50)] {
        put(&mut table, hash, key, value, at(0));
    }
    let told = room(&mut table, at(2));
    assert_eq!(
        told,
        (Ok(()), vec!["a"]),
        "others' twins stay, and are not asked"
    );
    assert_eq!(table.len(), 2);
}

#[test]
fn all_are_looked_at_again_when_that_is_asked_for() {
    let mut table = Names::new(1);
    put(&mut table, 1, "a", 50, at(0));
    assert_eq!(room(&mut table, at(1)).0, Err(49 * SECOND));
    assert_eq!(table.order.first(), Some(&(at(50), 1)));
    table.look_at_all();
    assert_eq!(table.order.first(), Some(&(at(0), 1)));
}

#[test]
fn a_crowd_that_has_gone_does_not_hold_its_memory() {
    let mut table = Names::new(10_000);
    table.entries.reserve(7_000);
    let large = table.entries.capacity();
    // Far apart, so that who goes leaves a free place.
    for hash in 0..1_000 {
        put(&mut table, hash * 7, "a", 0, at(0));
    }
    let shrink = |table: &mut Names, len| {
        while table.len() > len {
            assert!(room(table, at(60)).0.is_ok());
        }
        table.entries.capacity()
    };
    // Eight times as much as the keys there are and 64 more.
    let edge = large / 8 - 64;
    assert_eq!(shrink(&mut table, edge), large, "not far too much yet");
    assert_eq!((table.len(), large % 8), (edge, 0));
    let kept = shrink(&mut table, edge - 1);
    assert!(
        (2 * table.len()..large / 2 + 1).contains(&kept),
        "room for as many more: {kept}"
    );
    assert!(shrink(&mut table, 10) < 1_000);
}

#[test]
fn a_hash_is_handed_on_as_it_is() {
    let mut hashed = Hashed::default();
    hashed.write_u64(7);
    assert_eq!(hashed.finish(), 7);
    let mut bytes = Hashed::default();
    bytes.write(&[1, 2, 3]);
    assert_eq!(bytes.finish(), 0x01_02_03);
    let mut long = Hashed::default();
    long.write(&[1, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(long.finish(), 0, "the ninth byte meets the first");
}

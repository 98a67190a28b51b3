use proptest::prelude::*;

use super::*;

const S: Duration = Duration::from_secs(1);

fn id(name: &str) -> SessionId {
    SessionId::new(name)
}

fn start() -> Instant {
    crate::time::now()
}

fn seated(table: &mut Table<u32>, name: &str, now: Instant) -> SessionId {
    table.reserve().unwrap();
    table.insert(id(name), Labels::new(), 0, now).unwrap();
    id(name)
}

#[test]
fn a_seat_that_is_taken_or_being_deleted_is_not_free() {
    let mut table = Table::new(2);
    let now = start();
    let first = seated(&mut table, "a", now);
    table.reserve().unwrap();
    assert_eq!(table.reserve(), Err(NoSeat::Full));
    table.unreserve();
    let second = seated(&mut table, "b", now);
    assert_eq!(table.begin_delete(&first), Deletion::Begin(0));
    assert_eq!(table.reserve(), Err(NoSeat::Full));
    table.deleted(&first);
    assert_eq!(table.reserve(), Ok(()));
    assert_eq!(table.len(), 1);
    assert_eq!(table.close(), [second]);
    assert_eq!(table.reserve(), Err(NoSeat::Closed));
    assert_eq!(table.insert(id("c"), Labels::new(), 7, now), Err(7));
}

#[test]
fn one_deletes_others_join_and_what_is_stuck_is_begun_again() {
    let mut table = Table::new(2);
    let now = start();
    let a = seated(&mut table, "a", now);
    assert_eq!(table.begin(&a), Some(0));
    assert_eq!(table.begin_delete(&a), Deletion::Begin(0));
    assert_eq!(table.begin_delete(&a), Deletion::Join(0));
    assert_eq!(table.begin(&a), None);
    assert_eq!(table.status(&a), Some(SessionStatus::Deleting));
    assert_eq!(table.busy(&a), 1);
    assert_eq!(table.end(&a, now), 0);
    table.stuck(&a);
    assert_eq!(table.begin(&a), None);
    assert_eq!(table.begin_delete(&a), Deletion::Begin(0));
    table.deleted(&a);
    assert_eq!(table.begin_delete(&a), Deletion::Gone);
    assert_eq!(table.end(&a, now), 0);
    assert_eq!(table.status(&a), None);
}

#[test]
fn only_what_nobody_uses_is_idle() {
    let mut table = Table::new(9);
    let now = start();
    let (a, b) = (seated(&mut table, "a", now), seated(&mut table, "b", now));
    table.begin(&b);
    let idle = |table: &mut Table<u32>, span, now| table.begin_delete_idle(span, now);
    assert_eq!(
        idle(&mut table, 3 * S, now),
        (vec![], now.saturating_add(3 * S))
    );
    let later = now.saturating_add(3 * S);
    assert_eq!(idle(&mut table, 3 * S, later).0, [0]);
    // Who comes now comes too late: it is decided.
    assert_eq!(table.begin(&a), None);
    assert_eq!(table.begin_delete(&a), Deletion::Join(0));
    table.end(&b, later);
    assert_eq!(
        idle(&mut table, 3 * S, later),
        (vec![], later.saturating_add(3 * S))
    );
    assert_eq!(
        idle(&mut table, 2 * S, later).1,
        later.saturating_add(2 * S)
    );
}

#[test]
fn what_is_busy_labelled_and_closed_is_told() {
    let mut table = Table::new(9);
    let now = start();
    let a = seated(&mut table, "a", now);
    assert!(table.begin(&a).is_some() && table.begin(&a).is_some());
    assert_eq!((table.busy(&a), table.busy(&id("b"))), (2, 0));
    assert_eq!((table.end(&a, now), table.busy(&a)), (1, 1));
    let labels = Labels::from([("owner".to_owned(), "me".to_owned())]);
    assert_eq!(table.labels(&a), Some(Labels::new()));
    assert!(table.set_labels(&a, labels.clone()));
    assert!(!table.set_labels(&id("b"), labels.clone()));
    assert_eq!(
        (table.labels(&a), table.labels(&id("b"))),
        (Some(labels), None)
    );
    assert_eq!(table.status(&a), Some(SessionStatus::Running));
    assert!(!table.is_closed());
    assert_eq!(table.close(), [a]);
    assert!(table.is_closed());
}

#[test]
fn a_page_holds_those_with_all_of_the_labels() {
    let mut table = Table::new(9);
    let now = start();
    let labels = |text: &str| -> Labels {
        let pairs = text.split_whitespace().map(|pair| pair.split_at(1));
        pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    };
    for (name, text) in [("a", "x1 y1"), ("b", "x1"), ("c", "x2 y1"), ("d", "x1 y1")] {
        let id = seated(&mut table, name, now);
        table.set_labels(&id, labels(text));
    }
    let page = table.page(&labels("x1 y1"), 1, 0);
    assert_eq!(page.rows, [(id("a"), SessionStatus::Running)]);
    assert_eq!((page.next, page.total), (Some(1), 2));
    let page = table.page(&labels("x1 y1"), 1, 1);
    assert_eq!(page.rows, [(id("d"), SessionStatus::Running)]);
    assert_eq!((page.next, page.total), (None, 2));
    assert_eq!(table.page(&labels("x1"), 9, 0).rows.len(), 3);
}

#[test]
fn seats_that_are_reserved_count_with_those_that_are_taken() {
    let mut table = Table::<u32>::new(3);
    seated(&mut table, "a", start());
    assert_eq!((table.reserve(), table.reserve()), (Ok(()), Ok(())));
    assert_eq!(table.reserve(), Err(NoSeat::Full));
    table.unreserve();
    assert_eq!(table.reserve(), Ok(()));
    assert_eq!(table.reserve(), Err(NoSeat::Full));
}

proptest! {
    /// Whatever comes and goes between two pages: who was there all the time is told once.
    #[test]
    fn pages_tell_all_who_stay_once_and_in_order(
        size in 1usize..5,
        changes in prop::collection::vec((any::<bool>(), 0usize..40), 0..60),
    ) {
        let now = start();
        let mut table = Table::new(1000);
        let mut there: Vec<SessionId> = (0..20).map(|n| seated(&mut table, &n.to_string(), now)).collect();
        let mut changes = changes.into_iter();
        let (mut told, mut after, mut made) = (Vec::new(), 0, 100);
        loop {
            let page = table.page(&Labels::new(), size, after);
            prop_assert!(page.rows.len() <= size);
            prop_assert_eq!(page.total, table.len());
            told.extend(page.rows.into_iter().map(|(id, _)| id));
            let Some(next) = page.next else { break };
            prop_assert!(next > after);
            after = next;
            if let Some((make, which)) = changes.next() {
                if make {
                    made += 1;
                    seated(&mut table, &made.to_string(), now);
                } else if which < there.len() {
                    table.deleted(&there.remove(which));
                }
            }
        }
        let stayed: Vec<_> = told.iter().filter(|id| there.contains(id)).collect();
        prop_assert_eq!(stayed, there.iter().collect::<Vec<_>>());
        let mut unique = told.clone();
        unique.sort();
        unique.dedup();
        prop_assert_eq!(unique.len(), told.len());
    }
}

//! Passing items on to any number of subscribers, each with a bounded queue of its own.
//!
//! Publishing never waits. Where a queue is full, its subscriber chose at the beginning: either it
//! goes without the item, and gets the next one for which there is room, or it loses its
//! subscription, and learns that after the items that it still has. A queue's lock is a leaf, held
//! for no longer than it takes to add or to take an item.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Weak};

use crate::locks::{Guard, Ranked};
use crate::view::ranks;

/// The publishing end. Dropping it closes all subscriptions.
pub(in crate::view) struct Broadcast<T>(Ranked<Subscribers<T>>);

struct Subscribers<T> {
    queues: Vec<Weak<Queue<T>>>,
    /// Nothing is published any more.
    closed: bool,
}

/// The receiving end. Dropping it ends the subscription.
pub struct Subscription<T> {
    queue: Arc<Queue<T>>,
}

/// The choice of a subscriber whose queue is full when an item comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::view) enum WhenFull {
    /// It goes without that item.
    DropItem,
    /// Its subscription ends.
    End,
}

/// The next thing that a subscriber receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// An item, in the order of publishing.
    Item(T),
    /// The queue was full when more items came: these are lost, and the subscription has ended.
    Lost,
    /// The subscription was closed, by its publisher or its subscriber.
    Closed,
}

struct Queue<T> {
    capacity: usize,
    when_full: WhenFull,
    state: Ranked<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Lost,
    Closed,
}

impl<T: Clone> Broadcast<T> {
    pub(in crate::view) fn new() -> Self {
        Broadcast(Ranked::new(
            ranks::SUBSCRIBERS,
            Subscribers {
                queues: Vec::new(),
                closed: false,
            },
        ))
    }

    /// Adds a subscriber, for whom up to `capacity` items wait.
    pub(in crate::view) fn subscribe(
        &self,
        capacity: usize,
        when_full: WhenFull,
    ) -> Subscription<T> {
        let mut subscribers = self.0.lock();
        let end = subscribers.closed.then_some(End::Closed);
        let items = VecDeque::new();
        let queue = Arc::new(Queue {
            capacity,
            when_full,
            state: Ranked::new(ranks::QUEUE, State { items, end }),
            changed: Condvar::new(),
        });
        // Those of subscribers who are gone, also if nothing is ever published.
        subscribers.queues.retain(|queue| queue.strong_count() > 0);
        subscribers.queues.push(Arc::downgrade(&queue));
        Subscription { queue }
    }

    /// Tells whether anybody would receive an item.
    pub(in crate::view) fn has_subscribers(&self) -> bool {
        let subscribers = self.0.lock();
        let mut queues = subscribers.queues.iter().filter_map(Weak::upgrade);
        queues.any(|queue| queue.lock().end.is_none())
    }

    /// Adds an item to every queue. Does not wait.
    pub(in crate::view) fn publish(&self, item: &T) {
        let mut subscribers = self.0.lock();
        subscribers.queues.retain(|queue| {
            let queue = queue.upgrade();
            queue.is_some_and(|queue| queue.push(item.clone()))
        });
    }

    /// Closes all subscriptions, present and future. Their queued items stay.
    pub(in crate::view) fn close(&self) {
        close(&mut self.0.lock());
    }
}

impl<T> Drop for Broadcast<T> {
    fn drop(&mut self) {
        close(&mut self.0.lock());
    }
}

fn close<T>(subscribers: &mut Subscribers<T>) {
    subscribers.closed = true;
    for queue in subscribers.queues.drain(..) {
        if let Some(queue) = queue.upgrade() {
            queue.end(End::Closed);
        }
    }
}

impl<T> Queue<T> {
    fn lock(&self) -> Guard<'_, State<T>> {
        self.state.lock()
    }

    /// Adds an item. Tells whether the subscription goes on.
    fn push(&self, item: T) -> bool {
        let mut state = self.lock();
        let is_full = state.items.len() >= self.capacity;
        match (state.end, is_full, self.when_full) {
            (None, false, _) => state.items.push_back(item),
            (None, true, WhenFull::End) => state.end = Some(End::Lost),
            (None, true, WhenFull::DropItem) | (Some(_), ..) => {}
        }
        self.changed.notify_all();
        state.end.is_none()
    }

    fn end(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }
}

impl<T> Subscription<T> {
    /// Waits for the next item, or the end of the subscription.
    pub fn next(&self) -> Received<T> {
        let mut state = self.queue.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                return Received::Item(item);
            }
            match state.end {
                Some(End::Lost) => return Received::Lost,
                Some(End::Closed) => return Received::Closed,
                None => {}
            }
            state = state.wait(&self.queue.changed);
        }
    }

    /// Tells whether nothing more will be added to the queue.
    pub fn has_ended(&self) -> bool {
        self.queue.lock().end.is_some()
    }

    /// Ends the subscription and drops the items that wait, from any thread.
    pub fn close(&self) {
        self.queue.lock().items.clear();
        self.queue.end(End::Closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subscriber_receives_every_item_in_order() {
        let broadcast = Broadcast::new();
        assert!(!broadcast.has_subscribers());
        let subscriptions = [1, 2, 3].map(|_| broadcast.subscribe(8, WhenFull::End));
        assert!(broadcast.has_subscribers());
        for item in 0..5 {
            broadcast.publish(&item);
        }
        let late = broadcast.subscribe(8, WhenFull::End);
        drop(broadcast);
        for subscription in &subscriptions {
            for item in 0..5 {
                assert_eq!(subscription.next(), Received::Item(item));
            }
            assert_eq!(subscription.next(), Received::Closed);
        }
        assert_eq!(late.next(), Received::Closed);
    }

    #[test]
    fn one_that_lags_loses_its_subscription_and_no_other_does() {
        let broadcast = Broadcast::new();
        let (slow, quick) = (
            broadcast.subscribe(2, WhenFull::End),
            broadcast.subscribe(2, WhenFull::End),
        );
        for item in 0..4 {
            broadcast.publish(&item);
            assert_eq!(quick.next(), Received::Item(item));
        }
        assert!(slow.has_ended() && !quick.has_ended());
        for received in [Received::Item(0), Received::Item(1)] {
            assert_eq!(slow.next(), received);
        }
        assert_eq!([slow.next(), slow.next()], [Received::Lost, Received::Lost]);
    }

    #[test]
    fn one_that_goes_without_items_gets_the_next_for_which_there_is_room() {
        let broadcast = Broadcast::new();
        let slow = broadcast.subscribe(2, WhenFull::DropItem);
        for item in 0..4 {
            broadcast.publish(&item);
        }
        assert_eq!(slow.next(), Received::Item(0));
        broadcast.publish(&4);
        broadcast.publish(&5);
        assert_eq!([slow.next(), slow.next()], [1, 4].map(Received::Item));
        drop(broadcast);
        assert_eq!(slow.next(), Received::Closed);
    }

    #[test]
    fn subscribers_who_are_gone_are_forgotten_though_nothing_is_published() {
        let broadcast = Broadcast::<u8>::new();
        for _ in 0..100 {
            drop(broadcast.subscribe(2, WhenFull::End));
        }
        assert!(broadcast.0.lock().queues.len() <= 1);
    }

    #[test]
    fn a_closed_subscription_wakes_its_reader_and_counts_no_more() {
        let broadcast = Broadcast::new();
        let subscription = Arc::new(broadcast.subscribe(2, WhenFull::End));
        let reader = Arc::clone(&subscription);
        let reading = std::thread::spawn(move || reader.next());
        subscription.close();
        assert_eq!(reading.join().unwrap(), Received::Closed);
        assert!(!broadcast.has_subscribers());
        broadcast.publish(&1);
        assert_eq!(subscription.next(), Received::Closed);
    }

    #[test]
    fn what_is_closed_stays_closed() {
        let broadcast = Broadcast::new();
        let before = broadcast.subscribe(2, WhenFull::End);
        broadcast.publish(&1);
        broadcast.close();
        broadcast.publish(&2);
        assert_eq!(before.next(), Received::Item(1));
        assert_eq!(before.next(), Received::Closed);
        assert_eq!(
            broadcast.subscribe(2, WhenFull::End).next(),
            Received::Closed
        );
    }
}

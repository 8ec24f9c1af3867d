//! Passing items on to any number of subscribers, each with a bounded queue of its own.
//!
//! Publishing never waits: a subscriber whose queue is full loses its subscription, and is told so
//! after the items that it still has. A queue's lock is a leaf, held for no longer than it takes to
//! add or to take an item.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Weak};

use crate::locks::{Guard, Ranked};
use crate::view::ranks;

/// The publishing end. Dropping it closes all subscriptions.
pub(in crate::view) struct Broadcast<T>(Arc<Ranked<Subscribers<T>>>);

struct Subscribers<T> {
    queues: Vec<Weak<Queue<T>>>,
    /// Nothing is published any more.
    closed: bool,
}

/// The receiving end. Dropping it ends the subscription.
pub struct Subscription<T> {
    queue: Arc<Queue<T>>,
    publisher: Weak<Ranked<Subscribers<T>>>,
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
        Broadcast(Arc::new(Ranked::new(
            ranks::SUBSCRIBERS,
            Subscribers {
                queues: Vec::new(),
                closed: false,
            },
        )))
    }

    /// Adds a subscriber, for whom up to `capacity` items wait.
    pub(in crate::view) fn subscribe(&self, capacity: usize) -> Subscription<T> {
        Subscription {
            queue: add(&mut self.0.lock(), capacity),
            publisher: Arc::downgrade(&self.0),
        }
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

fn add<T>(subscribers: &mut Subscribers<T>, capacity: usize) -> Arc<Queue<T>> {
    let end = subscribers.closed.then_some(End::Closed);
    let queue = Arc::new(Queue {
        capacity,
        state: Ranked::new(
            ranks::QUEUE,
            State {
                items: VecDeque::new(),
                end,
            },
        ),
        changed: Condvar::new(),
    });
    subscribers.queues.push(Arc::downgrade(&queue));
    queue
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
        if state.end.is_none() && state.items.len() >= self.capacity {
            state.end = Some(End::Lost);
        }
        if state.end.is_none() {
            state.items.push_back(item);
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

    /// Subscribes again, with an empty queue, after [`Received::Lost`].
    pub fn renew(&mut self) {
        let mut closed = Subscribers {
            queues: Vec::new(),
            closed: true,
        };
        self.queue = match self.publisher.upgrade() {
            Some(publisher) => add(&mut publisher.lock(), self.queue.capacity),
            None => add(&mut closed, self.queue.capacity),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subscriber_receives_every_item_in_order() {
        let broadcast = Broadcast::new();
        assert!(!broadcast.has_subscribers());
        let subscriptions = [1, 2, 3].map(|_| broadcast.subscribe(8));
        assert!(broadcast.has_subscribers());
        for item in 0..5 {
            broadcast.publish(&item);
        }
        let late = broadcast.subscribe(8);
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
        let (mut slow, quick) = (broadcast.subscribe(2), broadcast.subscribe(2));
        for item in 0..4 {
            broadcast.publish(&item);
            assert_eq!(quick.next(), Received::Item(item));
        }
        assert!(slow.has_ended() && !quick.has_ended());
        for received in [Received::Item(0), Received::Item(1)] {
            assert_eq!(slow.next(), received);
        }
        assert_eq!([slow.next(), slow.next()], [Received::Lost, Received::Lost]);
        slow.renew();
        broadcast.publish(&4);
        assert_eq!(
            [slow.next(), quick.next()],
            [Received::Item(4), Received::Item(4)]
        );
    }

    #[test]
    fn a_closed_subscription_wakes_its_reader_and_counts_no_more() {
        let broadcast = Broadcast::new();
        let subscription = Arc::new(broadcast.subscribe(2));
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
        let mut before = broadcast.subscribe(2);
        broadcast.publish(&1);
        broadcast.close();
        broadcast.publish(&2);
        assert_eq!(before.next(), Received::Item(1));
        assert_eq!(before.next(), Received::Closed);
        assert_eq!(broadcast.subscribe(2).next(), Received::Closed);
        before.renew();
        assert_eq!(before.next(), Received::Closed);
        drop(broadcast);
        before.renew();
        assert_eq!(before.next(), Received::Closed);
    }
}

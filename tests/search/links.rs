//! The links between actives and their standbys: what is sent, and when it arrives.
//!
//! Must not know what a message means to a twin. Everything arrives in the order in which it was
//! sent; what is on its way when a link breaks is lost.

use crate::acts::{act, note_record};
use crate::steps::Ways;
use crate::world::{LinkPace, Message, Pair};
use nodemanager::core::node::Role;
use nodemanager::core::{Action, Event};

/// Messages go out at once: a death before that is the same as one that loses them on the way.
/// Where the link is none of the matter, they arrive at once, too.
pub fn do_what_is_only_said(pair: &mut Pair) {
    let connects_at_once = pair.setting.link != LinkPace::OneByOne;
    let is_said = |action: &Action| match action {
        Action::Ack { .. } | Action::SayWatching | Action::SendSnapshot { .. } => true,
        Action::Serve => true,
        Action::Connect => connects_at_once,
        _ => false,
    };
    for index in 0..pair.twins.len() {
        let generation = pair.twins[index].generation;
        let is_dying = pair.twins[index].is_dying;
        while !is_dying && pair.twins[index].queue.front().is_some_and(is_said) {
            let action = pair.twin(generation).and_then(|twin| twin.queue.pop_front());
            action.into_iter().for_each(|action| act(pair, generation, action));
        }
    }
    while connects_at_once && deliver_one(pair) {}
}

/// The next message of any link whose receiver has nothing else to do.
fn deliver_one(pair: &mut Pair) -> bool {
    let at_once = pair.setting.link == LinkPace::AtOnce;
    let is_free = |pair: &Pair, generation| {
        let twin = pair.twins.iter().find(|twin| twin.generation == generation);
        twin.is_some_and(|twin| twin.is_free())
    };
    for twin in pair.twins.clone() {
        let (Some(link), Some(parent)) = (&twin.link, twin.parent) else { continue };
        let generation = twin.generation;
        if at_once && !link.to_standby.is_empty() && is_free(pair, generation) {
            deliver_to_standby(pair, generation);
            do_what_is_only_said(pair);
            return true;
        }
        let is_news =
            |e: &Event| matches!(e, Event::StandbySpawned { .. } | Event::StandbyConnected);
        if let Some(active) = pair.twin(parent).filter(|active| active.is_free())
            && let Some(index) = active.inbox.iter().position(|e| is_news(e) && active.may_hear(e))
        {
            let event = active.inbox.remove(index);
            active.hear(event);
            do_what_is_only_said(pair);
            return true;
        }
        let waits = |pair: &mut Pair| pair.twin(parent).is_some_and(|active| active.awaits_link());
        if at_once && !link.to_active.is_empty() && is_free(pair, parent) && !waits(pair) {
            deliver_to_active(pair, generation, parent);
            return true;
        }
    }
    false
}

pub fn send_to_standby(pair: &mut Pair, generation: i32, message: Message) {
    let standby = pair.standby_of(generation);
    if let Some(link) = standby.and_then(|twin| twin.link.as_mut()) {
        link.to_standby.push_back(message);
    }
}

pub fn send_to_active(pair: &mut Pair, generation: i32, message: Message) {
    let link = pair.twin(generation).and_then(|twin| twin.link.as_mut());
    if let Some(link) = link {
        // A later acknowledgement says all that the one before it said.
        if let (Message::Ack { .. }, Some(Message::Ack { .. })) = (&message, link.to_active.back())
        {
            link.to_active.pop_back();
        }
        link.to_active.push_back(message);
    }
}

pub fn break_or_deliver(pair: &Pair, ways: &mut Ways) {
    for twin in &pair.twins {
        let (Some(link), Some(parent)) = (&twin.link, twin.parent) else { continue };
        let generation = twin.generation;
        let is_linked = !twin.has(|event| *event == Event::LinkDown);
        if let (Some(message), true, true) = (link.to_standby.front(), is_linked, twin.is_free()) {
            let number =
                if pair.setting.link == LinkPace::OneByOne { 1 } else { link.to_standby.len() };
            let label = format_args!("twin {generation} gets {number} messages, first {message:?}");
            ways.add(label, false, |next| {
                for _ in 0..number {
                    deliver_to_standby(next, generation);
                    do_what_is_only_said(next);
                }
            });
        }
        let active = pair.twins.iter().find(|twin| twin.generation == parent);
        let is_ready = active.is_some_and(|active| active.is_free() && !active.awaits_link());
        if let (Some(message), true) = (link.to_active.front(), is_ready) {
            let number =
                if pair.setting.link == LinkPace::OneByOne { 1 } else { link.to_active.len() };
            let label = format_args!("twin {parent} gets {number} messages, first {message:?}");
            ways.add(label, false, |next| {
                for _ in 0..number {
                    deliver_to_active(next, generation, parent);
                }
            });
        }
        if pair.budget.cuts > 0 && active.is_some() {
            ways.add(format_args!("the link of twin {generation} breaks"), true, |next| {
                next.budget.cuts -= 1;
                if let Some(twin) = next.twin(generation) {
                    twin.link = None;
                    twin.owe(Event::LinkDown);
                }
                if let Some(active) = next.twin(parent) {
                    active.inbox.retain(|event| *event != Event::StandbyConnected);
                    active.owe(Event::StandbyLinkLost);
                }
            });
        }
    }
}

fn deliver_to_standby(pair: &mut Pair, generation: i32) {
    let Some(twin) = pair.twin(generation) else { return };
    let Some(message) = twin.link.as_mut().and_then(|link| link.to_standby.pop_front()) else {
        return;
    };
    let is_standby = twin.node.role == Role::Standby;
    match message {
        Message::Copied(entry) => {
            twin.hear(Event::Copied((*entry).clone()));
            if is_standby {
                note_record(pair, &entry);
            }
        }
        Message::CopyComplete { seq } => twin.hear(Event::CopyComplete { seq }),
        Message::Stop => twin.hear(Event::ToldToStop),
        Message::Ack { .. } | Message::Watching => {}
    }
}

fn deliver_to_active(pair: &mut Pair, generation: i32, parent: i32) {
    let link = pair.twin(generation).and_then(|twin| twin.link.as_mut());
    let Some(message) = link.and_then(|link| link.to_active.pop_front()) else { return };
    let Some(active) = pair.twin(parent) else { return };
    match message {
        Message::Ack { seq } => active.hear(Event::Acked { seq }),
        Message::Watching => active.hear(Event::StandbyWatching),
        Message::Copied(_) | Message::CopyComplete { .. } | Message::Stop => {}
    }
}

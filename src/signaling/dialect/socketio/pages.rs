//! Our application: existing pages' calls in rooms (`/webrtc`) and by id (the main namespace).

use super::application::{Action, Application, Arguments, Connect};
use super::direct::Direct;
use super::recovery::Return;
use super::rooms::Rooms;
use super::{Services, error_event};
use crate::signaling::{Delivery, Event, Fault};

/// The slot of the main namespace.
pub(super) const MAIN: u8 = 0;

/// The slot of `/webrtc`.
pub(super) const WEBRTC: u8 = 1;

/// The sockets of one connection.
#[derive(Default)]
pub struct Pages {
    /// From the URL; a namespace's `auth.token` wins.
    token: Option<String>,
    main: Option<Direct>,
    webrtc: Option<Rooms>,
}

#[derive(Default, serde::Deserialize)]
struct Auth {
    #[serde(default)]
    token: Option<String>,
}

impl Pages {
    /// `token`: from the URL.
    pub fn new(token: Option<String>) -> Self {
        Self { token, ..Self::default() }
    }
}

impl Application for Pages {
    fn namespaces(&self) -> &'static [&'static str] {
        &["/", "/webrtc"]
    }

    fn handle_connect(&mut self, slot: u8, connect: &Connect<'_>, services: &dyn Services) -> Vec<Action> {
        let auth: Auth = connect.auth.and_then(|auth| serde_json::from_str(auth).ok()).unwrap_or_default();
        let token = auth.token.as_deref().or(self.token.as_deref()).filter(|token| !token.is_empty());
        let permit = services.authorize(token);
        let back = connect.recovery.as_ref().and_then(Return::parse);
        if slot == MAIN {
            let (socket, actions) = Direct::new(permit, back, services);
            self.main = Some(socket);
            actions
        } else {
            let (socket, actions) = Rooms::new(permit, back, services);
            self.webrtc = Some(socket);
            actions
        }
    }

    fn handle_event(&mut self, slot: u8, name: &str, event: &Arguments<'_>) -> Vec<Action> {
        let actions = match slot {
            MAIN => self.main.as_mut().map(|socket| socket.handle_message(name, event)),
            _ => self.webrtc.as_mut().map(|socket| socket.handle_message(name, event)),
        };
        actions.unwrap_or_default()
    }

    /// Nothing is asked of these pages.
    fn handle_answer(&mut self, _slot: u8, _id: u64, _answer: &Arguments<'_>) -> Vec<Action> {
        Vec::new()
    }

    fn handle_disconnect(&mut self, slot: u8) -> Vec<Action> {
        if slot == MAIN {
            self.main = None;
        } else {
            self.webrtc = None;
        }
        vec![Action::Command(crate::signaling::Command::Leave)]
    }

    fn handle_delivery(&mut self, slot: u8, delivery: Delivery) -> Vec<Action> {
        // Nobody reads on: the server stops, or another connection goes on with this socket.
        match delivery.event {
            Event::Closing => return vec![Action::Close(Some(Fault::Shutdown))],
            Event::Closed(Fault::Replaced) => return vec![Action::Close(Some(Fault::Replaced))],
            _ => {}
        }
        let actions = match slot {
            MAIN => self.main.as_mut().map(|socket| socket.handle_delivery(delivery)),
            _ => self.webrtc.as_mut().map(|socket| socket.handle_delivery(delivery)),
        };
        actions.unwrap_or_default()
    }

    fn handle_fault(&mut self, _slot: u8, fault: Fault) -> Vec<Action> {
        vec![error_event(fault)]
    }

    fn can_come_back(&self) -> bool {
        self.main.as_ref().is_some_and(Direct::is_connected) || self.webrtc.as_ref().is_some_and(Rooms::is_in_room)
    }
}

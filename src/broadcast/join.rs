//! Joining routes and channels: be there first, then look who else is.

use super::control::{ReaderPart, WriterPart};
use super::desk::Desk;
use super::membership::{Membership, join_error, os};
use super::policy::Policy;
use super::receiver::Receiver;
use super::sender::Sender;
use super::settings::Settings;
use crate::connection::name::Role;
use crate::connection::rings;
use crate::error::broadcast::JoinError;
use crate::ring::Mode;
use crate::sys;
use std::sync::Arc;
use std::time::Instant;

/// Becomes the sender of a route.
pub(crate) fn route_sender(settings: &Settings, name: &str) -> Result<Sender, JoinError> {
    sender(&Membership::new(settings, name, Role::RouteSender))
}

/// Becomes a receiver of a route.
pub(crate) fn route_receiver(settings: &Settings, name: &str) -> Result<Receiver, JoinError> {
    receiver(&Membership::new(settings, name, Role::RouteReceiver))
}

/// Becomes a member of a channel.
pub(crate) fn channel(settings: &Settings, name: &str) -> Result<(Sender, Receiver), JoinError> {
    let membership = Membership::new(settings, name, Role::ChannelMember);
    Ok((sender(&membership)?, receiver(&membership)?))
}

/// Begins to send as a member: with a ring of its own, which all who are there have subscribed to when this returns.
pub(super) fn sender(membership: &Arc<Membership>) -> Result<Sender, JoinError> {
    let settings = membership.settings();
    let deadline = Instant::now() + settings.join_timeout;
    let mode = mode_of(settings.policy);
    let instance = sys::random_u64();
    let desk = Arc::new(Desk::new().map_err(|source| os("make a bell", source))?);
    let mut segment = None;
    let open = membership.attach_sender(|_| {
        let own = rings::create_segment(&settings.config, mode).map_err(join_error)?;
        segment = Some(own.share());
        Ok(WriterPart {
            desk: Arc::clone(&desk),
            segment: own,
            features: rings::features(mode),
            instance,
            policy: number_of(settings.policy),
            message_bytes_max: settings.config.message_bytes_max,
        })
    })?;
    let Some(segment) = segment else { unreachable!("invariant: made above") };
    let sender = Sender::new(Arc::clone(membership), desk, &open, segment, mode)
        .inspect_err(|_| membership.detach_sender())?;
    open.knock(instance, deadline).map_err(|source| os("knock at the receivers", source))?;
    if settings.hears_itself {
        open.subscribe_to_itself();
    }
    Ok(sender)
}

/// Begins to receive as a member: all senders that are there have let us in when this returns.
pub(super) fn receiver(membership: &Arc<Membership>) -> Result<Receiver, JoinError> {
    let settings = membership.settings();
    let deadline = Instant::now() + settings.join_timeout;
    let desk = Arc::new(Desk::new().map_err(|source| os("make a bell", source))?);
    let open = membership.attach_receiver(|_| Ok(ReaderPart { desk: Arc::clone(&desk) }))?;
    let receiver =
        Receiver::new(Arc::clone(membership), desk, &open).inspect_err(|_| membership.detach_receiver())?;
    let refusals =
        open.subscribe(settings.hears_itself, deadline).map_err(|source| os("look for senders", source))?;
    match refusals.first() {
        // In a channel there are others; who does not go together with us is an event.
        Some(refusal) if !membership.is_channel() => Err(JoinError::Refused(*refusal)),
        _ => Ok(receiver),
    }
}

/// Returns how the ring of a sender is written.
fn mode_of(policy: Policy) -> Mode {
    match policy {
        Policy::Block { stall_max: None } => Mode::Lossless,
        Policy::Block { .. } | Policy::DropNewest | Policy::Disconnect => Mode::Checked,
        Policy::Overwrite => Mode::Overwrite,
    }
}

fn number_of(policy: Policy) -> u32 {
    match policy {
        Policy::Block { .. } => 0,
        Policy::DropNewest => 1,
        Policy::Overwrite => 2,
        Policy::Disconnect => 3,
    }
}

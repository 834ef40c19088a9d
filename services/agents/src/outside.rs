//! What an agent asks about its network. Who it is is known from its socket.

use crate::guest::Guest;
use octant_api::agent::{Credentials, PreviewRequest};
use octant_api::egress::Preview;
use octant_api::error::ApiError;

/// Which secrets the gate uses for it. Of a secret there is nothing in the answer but its name.
pub(crate) fn credentials(guest: &Guest) -> Credentials {
    Credentials { credentials: guest.manager.credentials_of(guest.aid) }
}

pub(crate) async fn preview(guest: &Guest, asked: PreviewRequest) -> Result<Preview, ApiError> {
    guest.manager.preview(guest.aid, asked.url).await
}

//! `octant message`: what agents say to each other, from inside a workstation.

use crate::args::{Form, Message as Command};
use crate::error::CliError;
use crate::out::{Out, printable};
use crate::service::Service;
use octant_api::agent::{Body, ReceiveRequest, SendRequest};
use octant_api::text::Json;
use octant_ids::{Exit, Layout};

pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let own = Service::of_workstation(layout);
    match command {
        Command::Send { room, body, kind, form } => {
            let request = SendRequest { room: room.clone(), kind: kind.clone(), body: read(body, *form)? };
            let sent = own.call(&request)?;
            if out.json {
                return out.json(&sent);
            }
            out.line(format_args!("ledger entry {}, {} receivers", sent.seq, sent.receivers))
        }
        Command::Receive { after, wait } => {
            let got = own.call(&ReceiveRequest { after: *after, wait_ms: wait.0 })?;
            if out.json {
                return out.json(&got);
            }
            for message in &got.messages {
                let (name, body) = (printable(&message.name), printable(message.body.text()));
                let (cursor, room, kind) = (message.cursor, &message.room, &message.kind);
                out.line(format_args!("{cursor} {room} {name} {kind} {body}"))?;
            }
            if got.lost > 0 {
                out.note(&format!("{} messages were pushed out by newer ones", got.lost));
            }
            if got.restarted {
                out.note("mailboxes were emptied by a restart: messages may be missing before the next one");
            }
            Ok(())
        }
    }
}

fn read(body: &str, form: Form) -> Result<Body, CliError> {
    match form {
        Form::Text => Ok(Body::Text(body.to_owned())),
        Form::Json => Json::from_text(body.to_owned()).map(Body::Json).map_err(|error| CliError::Refused {
            what: "cannot send the message".to_owned(),
            why: format!("its body is not JSON: {error}"),
            exit: Exit::Usage,
            next: Some("quote it for the shell, or leave --form json out".to_owned()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_text_unless_it_is_said_to_be_json() {
        assert_eq!(read("{", Form::Text).unwrap(), Body::Text("{".into()));
        assert_eq!(read("[1, 2]", Form::Json).unwrap().text(), "[1, 2]");
        assert!(read("{", Form::Json).unwrap_err().to_string().contains("not JSON"));
    }
}

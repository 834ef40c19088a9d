//! An operator's answer to a request for approval: signed, so that it needs no socket to be believed, and so that an
//! auditor can check it years later from the ledger alone.

use crate::action::Action;
use crate::dsse::{self, Sealed};
use crate::effective::Ceiling;
use crate::envelope::{EnvelopeError, Signer, VerifyError};
use crate::keys::{SigningKey, TrustedKeys};
use crate::limits;
use octant_ids::Sha256;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The payload type of an answer: nothing else that an operator signs can pass for one.
pub const DECISION_TYPE: &str = "application/vnd.octant.approval.v1+json";

/// What an operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It may be done, once.
    Allow,
    /// It may not be done.
    Deny,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// What is signed, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The request's identifier.
    pub approval: String,
    /// The digest of exactly what will be done.
    pub digest: Sha256,
    /// Whether it may be.
    pub decision: Decision,
    /// The machine that asked, by its identifier in manifests' audiences.
    pub machine: String,
    /// Until when the answer counts, in milliseconds since 1970.
    pub not_after_ms: u64,
}

/// A request as the machine that asked has it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its identifier.
    pub approval: &'a str,
    /// The digest of what will be done.
    pub digest: Sha256,
    /// What has to be approved.
    pub action: &'a Action,
    /// The role of the agent for which it is.
    pub role: &'a str,
    /// This machine.
    pub machine: &'a str,
    /// Now, in milliseconds since 1970.
    pub now_ms: u64,
}

/// An answer that was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What it says.
    pub decision: Decision,
    /// Whose it is.
    pub signer: Signer,
    /// Until when it counts, in milliseconds since 1970.
    pub not_after_ms: u64,
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Nobody signed it.
    #[error("this answer is not signed: {0}; make one with: octant approvals sign")]
    Unsigned(&'static str),
    /// Longer than any answer is.
    #[error("an answer of {0} bytes is too large; the limit is {limit} bytes", limit = limits::ANSWER_BYTES)]
    TooLarge(usize),
    /// It is not in an envelope of its type.
    #[error("not an answer: {0}")]
    Envelope(EnvelopeError),
    /// No key that counts has signed it.
    #[error(transparent)]
    Signer(#[from] VerifyError),
    /// The signed bytes are not an answer.
    #[error("what was signed is not an answer: {0}; make one with: octant approvals sign")]
    Form(String),
    /// For another machine.
    #[error("the answer is for machine {given:?} and this is {is:?}; answer the request of this machine")]
    Machine {
        /// The machine that the answer names.
        given: String,
        /// This one.
        is: String,
    },
    /// To another request.
    #[error("the answer is to request {given} and not to {is}; each request has an answer of its own")]
    Request {
        /// The request that the answer names.
        given: String,
        /// The one that was to be answered.
        is: String,
    },
    /// About something else.
    #[error("the answer is to a request with digest {given}, and this one has {is}; look at it again")]
    Digest {
        /// What the answer names.
        given: Sha256,
        /// What would be done.
        is: Sha256,
    },
    /// Its time is over.
    #[error("the answer counted until {not_after_ms} ms since 1970 and it is {now_ms}; answer anew")]
    Expired {
        /// Until when it counted.
        not_after_ms: u64,
        /// Now.
        now_ms: u64,
    },
    /// It would count for longer than any answer does.
    #[error("the answer would count for more than {limit} h; answer for less", limit = limits::ANSWER_MS / 3_600_000)]
    TooLong,
    /// Not this operator's to answer.
    #[error(
        "operator {operator:?} has the role {holds:?}, which may not answer for {action} of an agent of the role {role:?}; let an operator with more answer"
    )]
    Role {
        /// Who signed.
        operator: String,
        /// The signer's role.
        holds: String,
        /// The agent's role.
        role: String,
        /// What has to be approved.
        action: String,
    },
}

impl From<EnvelopeError> for AnswerError {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Unsigned(why) => Self::Unsigned(why),
            other => Self::Envelope(other),
        }
    }
}

fn sealed(envelope: &[u8]) -> Result<Sealed, AnswerError> {
    // All of it goes on record.
    if envelope.len() > limits::ANSWER_BYTES {
        return Err(AnswerError::TooLarge(envelope.len()));
    }
    Ok(Sealed::parse(envelope, DECISION_TYPE, limits::ANSWER_BYTES)?)
}

fn read(sealed: &Sealed) -> Result<Answer, AnswerError> {
    serde_json::from_slice(sealed.payload()).map_err(|e| AnswerError::Form(e.to_string()))
}

impl Answer {
    /// Signs it; returns the envelope as JSON.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        // Texts and numbers: there is nothing in it that JSON cannot say.
        dsse::sign(DECISION_TYPE, &serde_json::to_vec(self).unwrap_or_default(), &[key])
    }

    /// The request that an envelope says it is an answer to. Nothing is believed: it is where to look.
    ///
    /// # Errors
    /// Not an answer at all.
    pub fn request(envelope: &[u8]) -> Result<String, AnswerError> {
        read(&sealed(envelope)?).map(|answer| answer.approval)
    }

    /// Checks an answer to a request: first who signed the exact bytes, then everything that they say.
    ///
    /// # Errors
    /// See [`AnswerError`]; there is one for each reason.
    pub fn verify(
        envelope: &[u8],
        asked: &Asked<'_>,
        keys: &TrustedKeys,
        ceiling: &Ceiling,
    ) -> Result<Answered, AnswerError> {
        let sealed = sealed(envelope)?;
        let signers = sealed.signers(keys, asked.now_ms)?;
        let Self { approval, digest, decision, machine, not_after_ms } = read(&sealed)?;
        if machine != asked.machine {
            return Err(AnswerError::Machine { given: machine, is: asked.machine.to_owned() });
        }
        if approval != asked.approval {
            return Err(AnswerError::Request { given: approval, is: asked.approval.to_owned() });
        }
        if digest != asked.digest {
            return Err(AnswerError::Digest { given: digest, is: asked.digest });
        }
        if asked.now_ms >= not_after_ms {
            return Err(AnswerError::Expired { not_after_ms, now_ms: asked.now_ms });
        }
        if not_after_ms - asked.now_ms > limits::ANSWER_MS {
            return Err(AnswerError::TooLong);
        }
        let may = |signer: &&Signer| ceiling.may_approve(&signer.role, asked.action, asked.role);
        let signer = match (signers.iter().find(may), signers.first()) {
            (Some(signer), _) => signer.clone(),
            (None, signer) => {
                let (operator, holds) =
                    signer.map(|signer| (signer.operator.clone(), signer.role.clone())).unwrap_or_default();
                let (role, action) = (asked.role.to_owned(), asked.action.to_string());
                return Err(AnswerError::Role { operator, holds, role, action });
            }
        };
        Ok(Answered { decision, signer, not_after_ms })
    }
}

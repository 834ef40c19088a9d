//! The numbers of the TPM 2.0 Library specification that are used here (Part 2, "Structures", revision 1.59), by their
//! names there.

use std::fmt;

/// A command (Part 2, section 6.5.2, TPM_CC; each is described in Part 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Part 3, section 24.1.
    CreatePrimary,
    /// Part 3, section 12.1.
    Create,
    /// Part 3, section 12.2.
    Load,
    /// Part 3, section 12.7.
    Unseal,
    /// Part 3, section 28.4.
    FlushContext,
    /// Part 3, section 12.3.
    LoadExternal,
    /// Part 3, section 23.16.
    PolicyAuthorize,
    /// Part 3, section 11.1.
    StartAuthSession,
    /// Part 3, section 20.1.
    VerifySignature,
    /// Part 3, section 30.2.
    GetCapability,
    /// Part 3, section 22.4.
    PcrRead,
    /// Part 3, section 23.7.
    PolicyPcr,
    /// Part 3, section 22.2.
    PcrExtend,
}

impl Command {
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::CreatePrimary => 0x131,
            Self::Create => 0x153,
            Self::Load => 0x157,
            Self::Unseal => 0x15e,
            Self::FlushContext => 0x165,
            Self::LoadExternal => 0x167,
            Self::PolicyAuthorize => 0x16a,
            Self::StartAuthSession => 0x176,
            Self::VerifySignature => 0x177,
            Self::GetCapability => 0x17a,
            Self::PcrRead => 0x17e,
            Self::PolicyPcr => 0x17f,
            Self::PcrExtend => 0x182,
        }
    }

    /// The types of the handle that its reply begins with, of something new that must be flushed; none if it makes
    /// nothing.
    pub(crate) fn makes(self) -> &'static [u8] {
        match self {
            Self::CreatePrimary | Self::Load | Self::LoadExternal => &[handle_type::TRANSIENT],
            Self::StartAuthSession => &[handle_type::HMAC_SESSION, handle_type::POLICY_SESSION],
            _ => &[],
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreatePrimary => "TPM2_CreatePrimary",
            Self::Create => "TPM2_Create",
            Self::Load => "TPM2_Load",
            Self::Unseal => "TPM2_Unseal",
            Self::FlushContext => "TPM2_FlushContext",
            Self::LoadExternal => "TPM2_LoadExternal",
            Self::PolicyAuthorize => "TPM2_PolicyAuthorize",
            Self::StartAuthSession => "TPM2_StartAuthSession",
            Self::VerifySignature => "TPM2_VerifySignature",
            Self::GetCapability => "TPM2_GetCapability",
            Self::PcrRead => "TPM2_PCR_Read",
            Self::PolicyPcr => "TPM2_PolicyPCR",
            Self::PcrExtend => "TPM2_PCR_Extend",
        })
    }
}

/// TPM_ST (section 6.9).
pub(crate) mod tag {
    pub(crate) const NO_SESSIONS: u16 = 0x8001;
    pub(crate) const SESSIONS: u16 = 0x8002;
    pub(crate) const CREATION: u16 = 0x8021;
    pub(crate) const VERIFIED: u16 = 0x8022;
}

/// TPM_ALG_ID (section 6.3).
pub(crate) mod alg {
    pub(crate) const AES: u16 = 0x0006;
    pub(crate) const KEYEDHASH: u16 = 0x0008;
    pub(crate) const SHA256: u16 = 0x000b;
    pub(crate) const NULL: u16 = 0x0010;
    pub(crate) const ECDSA: u16 = 0x0018;
    pub(crate) const ECC: u16 = 0x0023;
    pub(crate) const CFB: u16 = 0x0043;
}

/// TPM_ECC_CURVE (section 6.4).
pub(crate) const CURVE_P256: u16 = 0x0003;

/// TPM_RH (section 7.4).
pub(crate) mod permanent {
    pub(crate) const OWNER: u32 = 0x4000_0001;
    pub(crate) const NULL: u32 = 0x4000_0007;
    /// The authorization that is a password; here always the empty one.
    pub(crate) const PASSWORD: u32 = 0x4000_0009;
}

/// TPM_HT (section 7.2): the first byte of a handle says what it is of.
pub(crate) mod handle_type {
    pub(crate) const HMAC_SESSION: u8 = 0x02;
    pub(crate) const POLICY_SESSION: u8 = 0x03;
    pub(crate) const TRANSIENT: u8 = 0x80;
}

/// TPMA_OBJECT (section 8.3).
pub(crate) mod attribute {
    pub(crate) const FIXED_TPM: u32 = 1 << 1;
    pub(crate) const FIXED_PARENT: u32 = 1 << 4;
    pub(crate) const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    pub(crate) const USER_WITH_AUTH: u32 = 1 << 6;
    pub(crate) const ADMIN_WITH_POLICY: u32 = 1 << 7;
    pub(crate) const NO_DA: u32 = 1 << 10;
    pub(crate) const RESTRICTED: u32 = 1 << 16;
    pub(crate) const DECRYPT: u32 = 1 << 17;
    pub(crate) const SIGN: u32 = 1 << 18;
}

/// TPMA_SESSION (section 8.4).
pub(crate) mod session {
    pub(crate) const CONTINUE: u8 = 1 << 0;
    /// The command's first parameter is encrypted.
    pub(crate) const DECRYPT: u8 = 1 << 5;
    /// The reply's first parameter is encrypted.
    pub(crate) const ENCRYPT: u8 = 1 << 6;
    /// The reply is authenticated although the command needs no authorization.
    pub(crate) const AUDIT: u8 = 1 << 7;
}

/// TPM_RC (section 6.6), without the number of the handle, session or parameter that format one adds.
pub(crate) mod rc {
    pub(crate) const SUCCESS: u32 = 0;
    pub(crate) const INITIALIZE: u32 = 0x100;
    pub(crate) const FAILURE: u32 = 0x101;
    pub(crate) const PCR_CHANGED: u32 = 0x128;
    pub(crate) const VALUE: u32 = 0x084;
    pub(crate) const AUTH_FAIL: u32 = 0x08e;
    pub(crate) const POLICY_FAIL: u32 = 0x09d;
    pub(crate) const BAD_AUTH: u32 = 0x0a2;
    pub(crate) const YIELDED: u32 = 0x908;
    pub(crate) const TESTING: u32 = 0x90a;
    pub(crate) const NV_RATE: u32 = 0x920;
    pub(crate) const LOCKOUT: u32 = 0x921;
    pub(crate) const RETRY: u32 = 0x922;
}

/// A response code (Part 2, section 6.6), as a TPM, or the kernel in its place, gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseCode(pub u32);

impl ResponseCode {
    /// What went wrong, whichever handle, session or parameter it was.
    pub(crate) fn base(self) -> u32 {
        // Format one: bits 0 to 5 and bit 7; bit 6 says "parameter", bits 8 to 11 which. Bits above are the layer's.
        if self.0 & 0x80 == 0 { self.0 & 0xfff } else { self.0 & 0xbf }
    }

    /// Whether it is about one of the handles, sessions or parameters, and not about the TPM's own state.
    pub(crate) fn is_about_arguments(self) -> bool {
        self.0 & 0x80 != 0
    }

    fn meaning(self) -> &'static str {
        match self.base() {
            rc::INITIALIZE => "the firmware has not started the TPM",
            rc::FAILURE => "the TPM is in failure mode",
            0x120 => "the command is disabled",
            0x124 | 0x12f => "an authorization is missing or not possible",
            rc::PCR_CHANGED => "a PCR has changed since the policy was checked",
            0x143 => "the TPM does not have this command",
            0x081 => "asymmetric algorithm not supported",
            0x082 => "attributes are not consistent",
            0x083 => "hash algorithm not supported",
            rc::VALUE => "a value is out of range or does not fit",
            0x085 => "hierarchy is not enabled",
            0x08b => "the handle is not of the right kind",
            rc::AUTH_FAIL | rc::BAD_AUTH => "the authorization is wrong",
            0x08f => "nonce of wrong size",
            0x092 => "scheme not supported",
            0x095 => "a structure has the wrong size",
            0x096 => "symmetric algorithm not supported",
            0x09a => "insufficient bytes",
            0x09b => "the signature is not valid",
            rc::POLICY_FAIL => "the policy is not satisfied",
            0x09f => "integrity check failed",
            0x0a0 => "the ticket is not valid",
            0x0a5 => "public and sensitive parts do not belong together",
            0x0a6 => "curve not supported",
            0x902 => "out of memory for objects",
            0x903 => "out of memory for sessions",
            0x904 => "out of memory",
            0x905 => "out of session handles",
            0x906 => "out of object handles",
            rc::TESTING => "the TPM is testing itself",
            rc::NV_RATE => "the TPM limits how often it writes to its memory",
            rc::LOCKOUT => "locked out",
            rc::YIELDED | rc::RETRY => "the TPM is busy",
            0x923 => "the TPM's memory is not available",
            _ => "see TPM 2.0 Library, Part 2, TPM_RC",
        }
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#05x}, {}", self.0, self.meaning())
    }
}

//! Names that have been checked: once one exists, nobody checks it again.
use hearth_proto::name::{self, BadName};
use std::{fmt, sync::Arc};

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the spelling.
            pub fn new(text: &str) -> Result<Self, BadName> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            /// As it is spelled.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_name!(
    /// A room's name.
    RoomName,
    name::room
);
checked_name!(
    /// A user's name.
    UserName,
    name::user
);
checked_name!(
    /// A client's id for a command, and its idempotency key.
    ClientId,
    name::id
);

impl RoomName {
    /// The part that settings are chosen by.
    pub fn namespace(&self) -> &str {
        name::namespace(&self.0)
    }

    /// The user whose personal room it is.
    pub fn personal(&self) -> Option<&str> {
        name::personal(&self.0)
    }
}

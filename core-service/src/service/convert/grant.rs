//! Grants, as an edge keeps them and brings them to the next core.
use super::{moment, since_1970};
use crate::{
    auth::grant::{Acts, Defaults, Grant, Rule},
    hub::Error,
    room::id::UserName,
};
use hearth_proto::v1;

/// A grant, as an edge keeps it.
pub(super) fn opened(grant: &Grant) -> v1::Opened {
    let rules = |rules: &Vec<Rule>| v1::Permissions {
        rooms: rules
            .iter()
            .map(|rule| v1::RoomPermissions {
                r#match: rule.pattern.clone().into(),
                allow: rule.allow.names().map(str::to_owned).collect(),
            })
            .collect(),
    };
    v1::Opened {
        user: grant.user.as_str().to_owned(),
        expires_at: grant.expires_at.map(moment),
        service: grant.service,
        permissions: grant.rules.as_ref().map(rules),
        token_id: grant.token_id.clone().unwrap_or_default().into(),
        meta: grant.meta.clone().unwrap_or_default().into(),
        issued_at: grant.issued_at.map(moment),
    }
}

/// A grant that an edge has kept, as a core gave it.
pub(in crate::service) fn reopened(opened: v1::Opened) -> Result<Grant, Error> {
    let v1::Opened { user, expires_at, service, permissions, token_id, meta, issued_at } = opened;
    let rule = |v1::RoomPermissions { r#match, allow }| Rule {
        pattern: r#match.into(),
        allow: Acts::named(allow.iter().map(String::as_str)),
    };
    let user = UserName::new(&user)?;
    Ok(Grant {
        // Nobody speaks in another's name through an edge.
        subject: user.clone(),
        user,
        service,
        rules: permissions.map(|permissions| permissions.rooms.into_iter().map(rule).collect()),
        defaults: Defaults::default(),
        issued_at: issued_at.map(since_1970),
        expires_at: expires_at.map(since_1970),
        token_id: (!token_id.is_empty()).then(|| token_id.into()),
        meta: (!meta.is_empty()).then(|| meta.into()),
    })
}

"""Many changes in one call. Each is one by itself: what fails is told, the rest is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgate.errors import BadRequest, GatewayError
from fastgate.management.call import Invalid
from fastgate.management.keys import update_one as update_key
from fastgate.management.users import update_one as update_user

if TYPE_CHECKING:
    from fastgate.management.call import Call

__all__ = ["update_keys", "update_users"]


async def update_keys(call: Call) -> Any:
    """Change keys."""
    done, failed = [], []
    for each in call.body.keys:
        try:
            done.append({"key": each.key, "key_info": await update_key(call, each)})
        except (GatewayError, Invalid) as error:
            failed.append({"key": each.key, "key_info": None, "failed_reason": _reason(error)})
    return {
        "total_requested": len(call.body.keys),
        "successful_updates": done,
        "failed_updates": failed,
    }


async def update_users(call: Call) -> Any:
    """Change users: those named, each as it says, or with `all_users` all of them alike."""
    body = call.body
    if bool(body.users) == body.all_users:
        raise Invalid("expected either users or all_users", "body", "users")
    if body.all_users:
        if not body.user_updates:
            raise BadRequest("expected user_updates, got none", param="user_updates")
        found = await call.store.fetch("SELECT user_id FROM users ORDER BY user_id")
        changes = [(row["user_id"], None, body.user_updates) for row in found]
    else:
        changes = [(each.user_id or None, each.user_email or None, each) for each in body.users]
    results = []
    for user_id, email, change in changes:
        result = {"user_id": user_id, "user_email": email, "success": True, "error": None}
        try:
            updated = await update_user(call, change, user_id)
            results.append({**result, **updated, "updated_user": updated["data"]})
        except (GatewayError, Invalid) as error:
            result.update(success=False, error=_reason(error))
            results.append({**result, "updated_user": None})
    successful = sum(bool(result["success"]) for result in results)
    return {
        "results": [{k: v for k, v in result.items() if k != "data"} for result in results],
        "total_requested": len(results),
        "successful_updates": successful,
        "failed_updates": len(results) - successful,
    }


def _reason(error: GatewayError | Invalid) -> str:
    return str(error)

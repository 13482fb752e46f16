"""Telling people about alerts. The rules write what is to be told into the store's outbox; here it is sent.

outbox (store) ─▶ sender.py: claim · send · retry ─▶ webhook.py: Alertmanager's JSON over HTTP
"""

from telemetryx.notify.sender import Receiver, Sender
from telemetryx.notify.webhook import Webhook, WebhookTarget

__all__ = ["Receiver", "Sender", "Webhook", "WebhookTarget"]

"""Uses the client that openapi-python-client makes of /openapi.json: python client.py URL"""

import datetime
import io
import json
import sys
import time
import uuid

from ponix_client.api.envelopes import post_envelopes
from ponix_client.api.messages import get_status, post_message
from ponix_client.client import Client
from ponix_client.models import (
    BatchAnswer,
    EnvelopeAccepted,
    EnvelopeBody,
    ErrorBody,
    MessageAccepted,
    MessageObject,
    MessageStatus,
    Readings,
    Status,
)
from ponix_client.types import File

client = Client(base_url=sys.argv[1])
key = f"python-{uuid.uuid4()}"


def post(device):
    body = EnvelopeBody(
        end_device_id=device,
        occurred_at=datetime.datetime.now(datetime.timezone.utc),
        data=Readings.from_dict({"pressure": 2.5}),
    )
    return post_envelopes.sync(client=client, body=body, idempotency_key=key)


first = post("python-client")
assert isinstance(first, EnvelopeAccepted), first
assert not first.duplicate, first
wrong = post("no.device")
assert isinstance(wrong, ErrorBody) and wrong.field == "end_device_id", wrong

lines = (
    json.dumps({"end_device_id": device, "occurred_at": "2026-03-01T12:00:00Z"})
    for device in ("python-lines", "python-lines")
)
taken = post_envelopes.sync(client=client, body="\n".join(lines))
assert isinstance(taken, BatchAnswer) and taken.accepted == 2, taken
# end_device_id and occurred_at of envelope.v1.ProcessedEnvelope.
protobuf = b"\x12\x0fpython-protobuf\x1a\x06\x08\xc0\xd4\x90\xcd\x06"
taken = post_envelopes.sync(client=client, body=File(payload=io.BytesIO(protobuf)))
assert isinstance(taken, EnvelopeAccepted), taken

customer = {
    "entity_type": "Customer",
    # No two customers have the same key.
    "customer_key": time.time_ns(),
    "name": "Customer#000000370",
    "address": "Street 1",
    "nation_key": 12,
    "phone": "22-524-218-7466",
    "account_balance": 171.42,
    "market_segment": "MACHINERY",
    "comment": "regular",
}
taken = post_message.sync(client=client, body=MessageObject.from_dict(customer))
assert isinstance(taken, MessageAccepted), taken
status = get_status.sync(client=client, message_id=taken.message_id, wait="20s")
assert isinstance(status, MessageStatus), status
assert status.status == Status.PROCESSED, status
line = f"C|{time.time_ns()}|Customer#371|Street 1|12|22-524|171.42|MACHINERY|"
taken = post_message.sync(client=client, body=line)
assert isinstance(taken, MessageAccepted), taken
unknown = get_status.sync(client=client, message_id=uuid.uuid4())
assert unknown.status == "unknown", unknown
print("python: done")

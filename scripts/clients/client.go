// Uses the client that ogen makes of /openapi.json: client URL
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"ponixclient/api"

	"github.com/go-faster/jx"
	"github.com/google/uuid"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "go:", err)
		os.Exit(1)
	}
	fmt.Println("go: done")
}

func run(url string) error {
	client, err := api.NewClient(url)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return use(ctx, client)
}

func use(ctx context.Context, client *api.Client) error {
	event := &api.EnvelopeBody{
		EndDeviceID: "go-client",
		OccurredAt:  time.Now().UTC(),
		Data:        api.NewOptReadings(api.Readings{"pressure": jx.Raw("2.5")}),
	}
	key := api.PostEnvelopesParams{IdempotencyKey: api.NewOptString("go-" + uuid.NewString())}
	posted, err := client.PostEnvelopes(ctx, event, key)
	if err != nil {
		return err
	}
	answer, ok := posted.(*api.EnvelopesAnswer)
	if !ok || !answer.IsEnvelopeAccepted() {
		return fmt.Errorf("an envelope is answered %#v", posted)
	}
	event.EndDeviceID = "no.device"
	posted, err = client.PostEnvelopes(ctx, event, api.PostEnvelopesParams{})
	if err != nil {
		return err
	}
	if wrong, ok := posted.(*api.PostEnvelopesBadRequest); !ok || wrong.Field.Value != "end_device_id" {
		return fmt.Errorf("a wrong device is answered %#v", posted)
	}
	// No two customers have the same key.
	customer := fmt.Sprintf("C|%d|Customer#370|Street 1|12|22-524|171.42|MACHINERY|", time.Now().UnixNano())
	lines := strings.NewReader(customer + "\nwrong")
	batch, err := client.PostBatch(ctx, &api.PostBatchReqTextPlain{Data: lines}, api.PostBatchParams{})
	if err != nil {
		return err
	}
	some, ok := batch.(*api.PostBatchMultiStatus)
	if !ok || some.Accepted != 1 || some.Failed != 1 {
		return fmt.Errorf("two lines are answered %#v", batch)
	}
	params := api.GetStatusParams{MessageID: some.Results[0].MessageID.Value, Wait: api.NewOptString("20s")}
	status, err := client.GetStatus(ctx, params)
	if err != nil {
		return err
	}
	if known, ok := status.(*api.MessageStatus); !ok || known.Status != api.StatusProcessed {
		return fmt.Errorf("the status is %#v", status)
	}
	return nil
}

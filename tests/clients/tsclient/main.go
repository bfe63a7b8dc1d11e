// Tsclient runs any number of Tailscale nodes (tsnet) in one process, for the
// end-to-end tests. It reads commands from standard input and writes answers
// and events to standard output, one JSON object a line; logs go to standard
// error.
//
//	{"id":1,"node":"a","cmd":"up","control":"http://127.0.0.1:8080","dir":"/tmp/a","auth_key":"...","tags":["tag:x"],"ephemeral":false}
//	{"id":2,"node":"a","cmd":"get","url":"http://100.64.0.2/"}
//	{"id":3,"node":"a","cmd":"status"}
//	{"id":4,"node":"a","cmd":"ping","ip":"100.64.0.2","type":"disco"}
//	{"id":5,"node":"a","cmd":"home","address":"127.0.0.2"}    the relay to be at home on, by its address
//	{"id":6,"node":"a","cmd":"logout"}
//	{"id":7,"node":"a","cmd":"close"}                         stops the node without logging out
//	{"id":8,"cmd":"quit"}
//
// An answer has the command's id and "ok" or "error". Events have the node's
// name, "event" and "value": "auth_url", "state" (NeedsLogin, Starting,
// Running, ...), "running" (its addresses), "login_error" (what the control
// server said), "health".
//
// A node that is up answers HTTP on port 80 of its addresses with
// "hello from NAME".
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	"tailscale.com/envknob"
)

// answerWithin bounds every command: a test waits for events, not for this.
const answerWithin = 30 * time.Second

type command struct {
	ID        int      `json:"id"`
	Node      string   `json:"node"`
	Cmd       string   `json:"cmd"`
	Control   string   `json:"control"`
	Dir       string   `json:"dir"`
	AuthKey   string   `json:"auth_key"`
	Tags      []string `json:"tags"`
	Ephemeral bool     `json:"ephemeral"`
	URL       string   `json:"url"`
	IP        string   `json:"ip"`
	Type      string   `json:"type"`
	Address   string   `json:"address"`
}

func main() {
	log.SetFlags(log.Lmicroseconds)
	// No node may look for anything outside of this machine.
	envknob.SetNoLogsNoSupport()
	fleet := &fleet{nodes: map[string]*node{}}
	defer fleet.close()

	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			emit(map[string]any{"error": fmt.Sprintf("command %q: %v", lines.Text(), err)})
			continue
		}
		if c.Cmd == "quit" {
			answer(c.ID, "bye", nil)
			return
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
			defer cancel()
			value, err := fleet.do(ctx, c)
			answer(c.ID, value, err)
		}()
	}
}

// fleet is all nodes of this process, by name.
type fleet struct {
	mu    sync.Mutex
	nodes map[string]*node
}

func (f *fleet) do(ctx context.Context, c command) (any, error) {
	if c.Cmd == "up" {
		return nil, f.up(c)
	}
	n, err := f.find(c.Node)
	if err != nil {
		return nil, err
	}
	switch c.Cmd {
	case "get":
		return n.get(ctx, c.URL)
	case "status":
		return n.status(ctx)
	case "ping":
		return n.ping(ctx, c.IP, c.Type)
	case "home":
		return n.home(ctx, c.Address)
	case "logout":
		return nil, n.client.Logout(ctx)
	case "close":
		f.forget(c.Node)
		return nil, n.close()
	}
	return nil, fmt.Errorf("unknown command %q", c.Cmd)
}

func (f *fleet) up(c command) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.nodes[c.Node] != nil {
		return fmt.Errorf("node %q is up already", c.Node)
	}
	n, err := start(c)
	if err != nil {
		return err
	}
	f.nodes[c.Node] = n
	return nil
}

func (f *fleet) find(name string) (*node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[name]; n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("no node %q is up", name)
}

func (f *fleet) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.nodes, name)
}

func (f *fleet) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		n.close()
	}
}

var out sync.Mutex

func emit(value map[string]any) {
	line, err := json.Marshal(value)
	if err != nil {
		log.Fatalf("event %v: %v", value, err)
	}
	out.Lock()
	defer out.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

func answer(id int, value any, err error) {
	if err != nil {
		emit(map[string]any{"id": id, "error": err.Error()})
		return
	}
	emit(map[string]any{"id": id, "ok": value})
}

func readBody(response *http.Response) (string, error) {
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), nil
}

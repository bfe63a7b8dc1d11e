package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/netip"

	"tailscale.com/client/local"
	"tailscale.com/health"
	"tailscale.com/ipn"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
)

// node is one Tailscale node.
type node struct {
	name   string
	server *tsnet.Server
	client *local.Client
	stop   context.CancelFunc
}

func start(c command) (*node, error) {
	server := &tsnet.Server{
		Dir:           c.Dir,
		Hostname:      c.Node,
		AuthKey:       c.AuthKey,
		ControlURL:    c.Control,
		Ephemeral:     c.Ephemeral,
		AdvertiseTags: c.Tags,
		Logf:          log.New(log.Writer(), c.Node+": ", log.Flags()).Printf,
		UserLogf:      func(string, ...any) {},
	}
	if err := server.Start(); err != nil {
		return nil, err
	}
	client, err := server.LocalClient()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	n := &node{name: c.Node, server: server, client: client, stop: stop}
	go n.watch(ctx)
	go n.serve()
	return n, nil
}

// watch turns what the node says of itself into events, until it is stopped.
func (n *node) watch(ctx context.Context) {
	bus, err := n.client.WatchIPNBus(ctx, ipn.NotifyInitialState|ipn.NotifyInitialHealthState)
	if err != nil {
		n.event("error", fmt.Sprintf("watch: %v", err))
		return
	}
	defer bus.Close()
	said := map[string]string{}
	once := func(kind, value string) {
		if said[kind] != value {
			said[kind] = value
			n.event(kind, value)
		}
	}
	for {
		notify, err := bus.Next()
		if err != nil {
			return
		}
		if notify.ErrMessage != nil {
			once("login_error", *notify.ErrMessage)
		}
		if notify.BrowseToURL != nil && *notify.BrowseToURL != "" {
			once("auth_url", *notify.BrowseToURL)
		}
		if notify.Health != nil {
			for code, warning := range notify.Health.Warnings {
				if code == health.LoginStateWarnable.Code {
					once("login_error", warning.Text)
				} else {
					once("health", warning.Text)
				}
			}
		}
		if notify.State != nil {
			once("state", notify.State.String())
			if *notify.State == ipn.Running {
				n.running(ctx)
			}
		}
	}
}

func (n *node) running(ctx context.Context) {
	status, err := n.client.StatusWithoutPeers(ctx)
	if err != nil {
		n.event("error", fmt.Sprintf("status: %v", err))
		return
	}
	n.event("running", status.TailscaleIPs)
}

func (n *node) event(kind string, value any) {
	emit(map[string]any{"node": n.name, "event": kind, "value": value})
}

// serve answers HTTP inside of the tailnet.
func (n *node) serve() {
	listener, err := n.server.Listen("tcp", ":80")
	if err != nil {
		n.event("error", fmt.Sprintf("listen: %v", err))
		return
	}
	http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s", n.name)
	}))
}

func (n *node) get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	// A transport of its own: each request is a new connection through the tunnel.
	transport := &http.Transport{DialContext: n.server.Dial, DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", err
	}
	return readBody(response)
}

// peer is a node as its peers see it, and as it sees itself.
type peer struct {
	Name   string       `json:"name"`
	DNS    string       `json:"dns"`
	IPs    []netip.Addr `json:"ips"`
	Tags   []string     `json:"tags"`
	Online bool         `json:"online"`
	// The region code of its home relay.
	Relay string `json:"relay"`
	// The address of a direct connection; empty when there is none.
	Direct  string   `json:"direct"`
	Expired bool     `json:"expired"`
	Routes  []string `json:"routes"`
}

func (n *node) status(ctx context.Context) (any, error) {
	status, err := n.client.Status(ctx)
	if err != nil {
		return nil, err
	}
	peers := []peer{}
	for _, p := range status.Peer {
		peers = append(peers, describe(p))
	}
	users := []string{}
	for _, u := range status.User {
		users = append(users, u.LoginName)
	}
	return map[string]any{
		"state":  status.BackendState,
		"self":   describe(status.Self),
		"peers":  peers,
		"users":  users,
		"health": status.Health,
	}, nil
}

func describe(p *ipnstate.PeerStatus) peer {
	d := peer{Name: p.HostName, DNS: p.DNSName, IPs: p.TailscaleIPs, Online: p.Online, Relay: p.Relay, Direct: p.CurAddr, Expired: p.Expired}
	if p.Tags != nil {
		d.Tags = p.Tags.AsSlice()
	}
	if p.PrimaryRoutes != nil {
		for _, r := range p.PrimaryRoutes.AsSlice() {
			d.Routes = append(d.Routes, r.String())
		}
	}
	return d
}

func (n *node) ping(ctx context.Context, ip, kind string) (any, error) {
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, err
	}
	result, err := n.client.Ping(ctx, address, tailcfg.PingType(kind))
	if err != nil {
		return nil, err
	}
	if result.Err != "" {
		return nil, fmt.Errorf("ping %s: %s", ip, result.Err)
	}
	return result, nil
}

// home makes the relay at an address this node's home from its next look at the network on.
func (n *node) home(ctx context.Context, address string) (any, error) {
	relays, err := n.client.CurrentDERPMap(ctx)
	if err != nil {
		return nil, err
	}
	for id, region := range relays.Regions {
		for _, relay := range region.Nodes {
			if relay.IPv4 == address || relay.HostName == address {
				body, err := json.Marshal(id)
				if err != nil {
					return nil, err
				}
				return region.RegionCode, n.client.DebugActionBody(ctx, "force-prefer-derp", bytes.NewReader(body))
			}
		}
	}
	return nil, fmt.Errorf("no relay has the address %q", address)
}

func (n *node) close() error {
	n.stop()
	return n.server.Close()
}

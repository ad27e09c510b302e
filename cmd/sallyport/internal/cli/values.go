package cli

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Ports is one or more TCP ports, to be tried in order. Port 0 stands for any free port.
type Ports []int

// DefaultCallbackPort is the default of --callback-port.
const DefaultCallbackPort = 53682

// UnmarshalText reads "53682" or "53682,53683".
func (p *Ports) UnmarshalText(text []byte) error {
	*p = nil
	for word := range strings.SplitSeq(string(text), ",") {
		port, err := strconv.ParseUint(strings.TrimSpace(word), 10, 16)
		if err != nil {
			return fmt.Errorf("%q is not a port from 0 to 65535, nor a list of them", text)
		}
		*p = append(*p, int(port))
	}
	return nil
}

// Addrs joins each port with host. The host may be an IPv6 address, with or without brackets.
func (p Ports) Addrs(host string) []string {
	addrs := make([]string, len(p))
	for i, port := range p {
		addrs[i] = net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
	}
	return addrs
}

// ControlMaster says when the user's live ControlMaster is used. Its flag may stand without a
// value, as it did when it was a switch.
type ControlMaster string

// The values of ControlMaster.
const (
	ControlMasterOff  ControlMaster = "off"
	ControlMasterAuto ControlMaster = "auto"
	ControlMasterOn   ControlMaster = "on"
)

// IsBool tells kong that the flag needs no value.
func (*ControlMaster) IsBool() bool { return true }

// Decode implements kong.MapperValue. It reads "auto", a word for true or false, or nothing. A
// value of the flag is bound to it by an equals sign, so the word after it is the next argument.
func (c *ControlMaster) Decode(ctx *kong.DecodeContext) error {
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		*c = ControlMasterOn
		return nil
	}
	word := strings.ToLower(strings.TrimSpace(ctx.Scan.Pop().String()))
	switch on, ok := truth(word); {
	case on:
		*c = ControlMasterOn
	case ok:
		*c = ControlMasterOff
	case word == string(ControlMasterAuto):
		*c = ControlMasterAuto
	default:
		return fmt.Errorf("want on, auto or off, got %q", word)
	}
	return nil
}

// Seconds is a duration. A number without a unit is in seconds.
type Seconds time.Duration

// Milliseconds is a duration. A number without a unit is in milliseconds.
type Milliseconds time.Duration

// Interval is the time between two of our own requests. It is 0 for no requests, or at least a
// second, so that they are no load. A number without a unit is in seconds.
type Interval time.Duration

// UnmarshalText reads "30s", "5m" or "30".
func (i *Interval) UnmarshalText(text []byte) error {
	if err := parseDuration(text, time.Second, (*time.Duration)(i)); err != nil {
		return err
	}
	if *i != 0 && time.Duration(*i) < time.Second {
		return fmt.Errorf("%q is shorter than 1s; 0 turns it off", text)
	}
	return nil
}

// UnmarshalText reads "90s", "5m" or "90".
func (s *Seconds) UnmarshalText(text []byte) error {
	return parseDuration(text, time.Second, (*time.Duration)(s))
}

// UnmarshalText reads "90s", "5m" or "90000".
func (m *Milliseconds) UnmarshalText(text []byte) error {
	return parseDuration(text, time.Millisecond, (*time.Duration)(m))
}

// parseDuration sets d to the duration in text. A number without a unit counts in units. It may
// have 32 bits, so that the product fits into a Duration.
func parseDuration(text []byte, unit time.Duration, d *time.Duration) error {
	word := strings.TrimSpace(string(text))
	if n, err := strconv.ParseInt(word, 10, 32); err == nil {
		*d = time.Duration(n) * unit
	} else if *d, err = time.ParseDuration(word); err != nil {
		return fmt.Errorf("%q is not a duration such as 90s or 5m", text)
	}
	if *d < 0 {
		return fmt.Errorf("%q is negative", text)
	}
	return nil
}

// StringMap is a JSON object whose values are strings.
type StringMap map[string]string

// UnmarshalText reads the JSON object. The error does not quote the text, which may hold a secret.
func (m *StringMap) UnmarshalText(text []byte) error {
	if err := json.Unmarshal(text, (*map[string]string)(m)); err != nil {
		return fmt.Errorf("want a JSON object of strings, as {\"name\":\"value\"}")
	}
	return nil
}

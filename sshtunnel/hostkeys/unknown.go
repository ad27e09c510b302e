package hostkeys

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
)

// unrecordable holds the characters of a host name that would mean something else in known_hosts.
const unrecordable = "@?*#[]|'\"\\"

// decideUnknown decides about a plain key of which nothing is known, by StrictHostKeyChecking and
// CheckHostIP. If it accepts the key, it writes the key to known_hosts.
func (d *decision) decideUnknown(key ssh.PublicKey) error {
	onIP := d.address.lookup(key)
	names := []string{d.name()}
	if d.address.name != "" && onIP.status == keyNew {
		names = append(names, d.address.name)
	}
	if err := d.acceptUnknown(key, names); err != nil {
		return err
	}
	return d.address.confirm(onIP)
}

// acceptUnknown accepts a key by StrictHostKeyChecking or by a person's word, and writes it to
// known_hosts under names.
func (d *decision) acceptUnknown(key ssh.PublicKey, names []string) error {
	d.fail.Unknown, d.fail.Type, d.fail.Fingerprint = true, key.Type(), Fingerprint(key)
	if len(d.host.UserKnownHostsFiles) == 0 || strings.ContainsAny(d.host.HostName, unrecordable) {
		// A key that cannot be written down would be asked about again and again. ssh refuses it in
		// every mode.
		d.fail.Err = errors.New("there is no UserKnownHostsFile that could hold it")
		return d.fail
	}
	switch d.host.StrictHostKeyChecking {
	case "no", "off", "accept-new":
		d.voucher.Source = SourcePolicy
		d.remember(key, names...)
		return nil
	case "yes":
		d.nameComposite()
		return d.fail
	}
	yes, err := d.askYes(d.question(key), d.fail.Fingerprint)
	switch {
	case errors.Is(err, ErrNoPerson):
		d.fail.NeedsPerson = !d.host.BatchMode
		d.nameComposite()
		return d.fail
	case err != nil:
		d.fail.Err = err
		return d.fail
	case !yes:
		return d.fail
	}
	d.voucher.Source = SourcePerson
	d.remember(key, names...)
	d.updatable = true
	return nil
}

// nameComposite says in the error that a key of the host is known which we cannot use.
func (d *decision) nameComposite() {
	files := slices.Concat(d.host.UserKnownHostsFiles, d.host.GlobalKnownHostsFiles)
	if at := compositeLine(files, d.name()); at != "" {
		d.fail.Err = errors.New(at + " holds a composite ML-DSA key of the host, a type that is not supported here")
	}
}

// question returns what ssh asks about an unknown key.
func (d *decision) question(key ssh.PublicKey) string {
	var b strings.Builder
	address := "<no hostip for proxy command>"
	if d.ip.IsValid() {
		address = hostPort(d.ip.String(), d.host.Port)
	}
	otherTypes, otherNames := d.relatives(key)
	end := "."
	if otherTypes {
		end = "\nbut keys of different type are already known for this host."
	}
	fmt.Fprintf(&b, "The authenticity of host '%s (%s)' can't be established%s\n", d.fail.Host, address, end)
	fmt.Fprintf(&b, "%s key fingerprint is: %s\n", displayType(key.Type()), d.fail.Fingerprint)
	if len(otherNames) == 0 {
		b.WriteString("This key is not known by any other names.\n")
	} else {
		b.WriteString("This host key is known by the following other names/addresses:\n")
		b.WriteString(strings.Join(otherNames[:min(len(otherNames), maxOtherNames)], ""))
		if more := len(otherNames) - maxOtherNames; more > 0 {
			fmt.Fprintf(&b, "    (%d additional names omitted)\n", more)
		}
	}
	b.WriteString("Are you sure you want to continue connecting (yes/no/[fingerprint])? ")
	return b.String()
}

// maxOtherNames is the most names that the question shows under which the key is known, too.
const maxOtherNames = 8

// relatives tells whether keys of other types are known for the host, and lists the lines that hold
// this key under other names.
func (d *decision) relatives(key ssh.PublicKey) (otherTypes bool, otherNames []string) {
	for i := range d.entries {
		e := &d.entries[i]
		switch {
		case e.marker != "":
		case e.matches(d.fail.Host):
			otherTypes = true
		case SameKey(e.key, key):
			hosts := display.Cut(display.Printable(e.hosts))
			if strings.HasPrefix(hosts, "|") {
				hosts = "[hashed name]"
			}
			otherNames = append(otherNames, fmt.Sprintf("    %s:%d: %s\n", e.file, e.line, hosts))
		}
	}
	return otherTypes, otherNames
}

// maxQuestions is how often a person is asked who answers neither yes nor no nor the fingerprint.
const maxQuestions = 3

// askYes asks until the answer is yes, no or the fingerprint, which counts as yes. A fingerprint of
// "" is no answer.
func (d *decision) askYes(question, fingerprint string) (bool, error) {
	again := "Please type 'yes' or 'no': "
	if fingerprint != "" {
		again = "Please type 'yes', 'no' or the fingerprint: "
	}
	for range maxQuestions {
		answer, err := d.ask(d.ctx, question)
		if err != nil {
			return false, err
		}
		switch answer = strings.TrimSpace(answer); {
		case strings.EqualFold(answer, "yes"), fingerprint != "" && answer == fingerprint:
			return true, nil
		case strings.EqualFold(answer, "no"), answer == "":
			return false, nil
		}
		question = again
	}
	return false, nil
}

// remember adds an accepted key to the first of the user's files. If it cannot be written, the
// decision stands all the same.
func (d *decision) remember(key ssh.PublicKey, names ...string) {
	if len(d.host.UserKnownHostsFiles) == 0 {
		return
	}
	file := d.host.UserKnownHostsFiles[0]
	facts := []any{
		"hop", d.host.Alias, "host", strings.Join(names, ","),
		"type", key.Type(), "fingerprint", Fingerprint(key), "file", file,
	}
	if err := appendKnownHost(d.ctx, file, key, d.host.HashKnownHosts, names...); err != nil {
		d.log.Warn("host key not added", append(facts, "err", err)...)
		return
	}
	d.log.Warn("host key added", facts...)
}

package sshconfig

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"sallyport/sshtunnel/display"
)

// A setter takes a line's arguments and sets the keyword's values in the form that `ssh -G` prints.
// Arguments that it leaves are an error.
type setter func(e *evaluation, d *directive) error

// argument takes one argument, which must be there and not empty.
func argument(d *directive) (string, error) {
	arg, ok := d.next()
	if !ok {
		return "", d.errorf("%s has no argument", d.keyword)
	}
	return arg, nil
}

// text takes any value. It also takes lists of algorithms: their names and their + - ^ form are
// looked at when everything is read, because an unknown name concerns only the hosts of its line.
func text(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err == nil {
		e.set(d.keyword, arg)
	}
	return err
}

// command takes the rest of the line as it is, with what looks like a comment. The shell that runs
// it reads quotes and comments by its own rules.
func command(e *evaluation, d *directive) error {
	e.set(d.keyword, strings.TrimLeft(d.rest, blanks+"="))
	d.args = nil
	return nil
}

// anything takes the line and remembers nothing. OpenSSH accepts such lines as well.
func anything(_ *evaluation, d *directive) error {
	d.args = nil
	return nil
}

// choice makes the setter of an enumeration. Its values are separated by '|'. Other spellings of a
// value follow the one that is printed.
func choice(values string) setter {
	return func(e *evaluation, d *directive) error {
		arg, err := argument(d)
		if err != nil {
			return err
		}
		for value := range strings.SplitSeq(values, "|") {
			for spelling := range strings.FieldsSeq(value) {
				if lowerASCII(spelling) == lowerASCII(arg) { // as strcasecmp(3) does
					e.set(d.keyword, strings.Fields(value)[0])
					return nil
				}
			}
		}
		return d.errorf("%s does not take %q", d.keyword, display.Cut(arg))
	}
}

// flag takes yes or no.
var flag = choice("yes true|no false")

// number takes an integer from 0 on.
func number(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	n, err := parseNumber(arg, math.MaxInt32)
	if err != nil {
		return d.errorf("%s: %v", d.keyword, err)
	}
	e.set(d.keyword, strconv.Itoa(n))
	return nil
}

// connectTimeoutNone is set by the line "ConnectTimeout none". To ssh that is the default. Ours is
// 30 seconds, so the line must be told from none at all.
const connectTimeoutNone = "connecttimeout none"

// duration takes a time, and sets it in seconds. "none" leaves the keyword unset.
func duration(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	if arg == "none" {
		if d.keyword == "connecttimeout" {
			e.set(connectTimeoutNone, arg)
		}
		return nil
	}
	n, err := parseSeconds(arg)
	if err != nil {
		return d.errorf("%s: %v", d.keyword, err)
	}
	e.set(d.keyword, strconv.Itoa(n))
	return nil
}

// parseNumber reads an integer from 0 to limit, like strtonum(3).
func parseNumber(s string, limit int64) (int, error) {
	n, err := strconv.ParseInt(strings.TrimLeft(s, " \t\n\v\f\r"), 10, 64)
	if err != nil || n < 0 || n > limit {
		return 0, fmt.Errorf("bad number %q", display.Cut(s))
	}
	return int(n), nil
}

// parseSeconds reads a time and returns seconds (convtime of OpenSSH). A time is a sum of numbers
// with the units s, m, h, d and w. One number may lack its unit or have decimals; it is then
// seconds.
func parseSeconds(s string) (int, error) {
	bad := fmt.Errorf("bad time %q", display.Cut(s))
	total, seconds := 0.0, false
	for rest := s; rest != ""; {
		end := len(rest) - len(strings.TrimLeft(rest, "0123456789."))
		digits := rest[:end]
		n, err := strconv.ParseFloat(digits, 64)
		if err != nil {
			return 0, bad
		}
		unit := byte('s')
		if end < len(rest) {
			unit = rest[end] | 0x20
			end++
		}
		scale, ok := map[byte]float64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}[unit]
		if !ok || strings.Contains(digits, ".") && (unit != 's' || digits[len(digits)-1] == '.') {
			return 0, bad
		}
		if unit == 's' {
			if seconds {
				return 0, bad
			}
			seconds = true
		}
		total += n * scale
		rest = rest[end:]
	}
	if s == "" || total > math.MaxInt32 {
		return 0, bad
	}
	return int(total), nil
}

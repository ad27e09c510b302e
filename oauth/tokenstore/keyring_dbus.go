//go:build unix && !darwin

package tokenstore

import (
	"context"
	"errors"

	"github.com/godbus/dbus/v5"
)

// The keyring is the Secret Service (freedesktop.org, Secret Service API 0.2). This client is our
// own, because the well-known ones start a bus that is missing, and put up dialogs.
const (
	secretsName = "org.freedesktop.secrets"
	secretsPath = dbus.ObjectPath("/org/freedesktop/secrets")
	secretsBase = "org.freedesktop.Secret."
)

var errKeyringLocked = errors.New("it is locked")

// secret is the API's structure (oayays).
type secret struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

// secretService is one session with the Secret Service.
type secretService struct {
	// ctx bounds the one question or answer that the session is made for.
	ctx  context.Context
	conn *dbus.Conn
	// session is the API's name of it.
	session dbus.ObjectPath
}

// openSecrets connects to bus. The caller closes conn.
func openSecrets(ctx context.Context, bus string) (*secretService, error) {
	if bus == "" {
		return nil, errors.New("there is no D-Bus session")
	}
	conn, err := dbus.Dial(bus, dbus.WithContext(ctx)) // the connection ends with ctx
	if err != nil {
		return nil, err
	}
	s := &secretService{ctx: ctx, conn: conn}
	if err = conn.Auth(nil); err == nil {
		err = conn.Hello()
	}
	if err == nil {
		var ignored dbus.Variant
		err = s.call(secretsPath, "Service.OpenSession", "plain", dbus.MakeVariant("")).Store(&ignored, &s.session)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *secretService) call(object dbus.ObjectPath, method string, args ...any) *dbus.Call {
	return s.conn.Object(secretsName, object).CallWithContext(s.ctx, secretsBase+method, 0, args...)
}

// attributes are what the entry is found by.
func attributes() map[string]string {
	return map[string]string{"service": keyringService, "username": keyringUser}
}

// keyringGet returns the entry, or "" if the keyring answers and has none.
func keyringGet(ctx context.Context, bus string) (string, error) {
	s, err := openSecrets(ctx, bus)
	if err != nil {
		return "", err
	}
	defer s.conn.Close()
	var unlocked, locked []dbus.ObjectPath
	if err := s.call(secretsPath, "Service.SearchItems", attributes()).Store(&unlocked, &locked); err != nil {
		return "", err
	}
	if len(unlocked) == 0 {
		if len(locked) > 0 {
			return "", errKeyringLocked
		}
		_, err := s.collection() // a keyring that nothing can be put into counts as none
		return "", err
	}
	var found secret
	if err := s.call(unlocked[0], "Item.GetSecret", s.session).Store(&found); err != nil {
		return "", err
	}
	return string(found.Value), nil
}

// collection returns the collection for new entries: the default one, else that of the login.
func (s *secretService) collection() (dbus.ObjectPath, error) {
	var path dbus.ObjectPath
	if err := s.call(secretsPath, "Service.ReadAlias", "default").Store(&path); err != nil {
		return "", err
	}
	if path == "/" {
		path = secretsPath + "/collection/login"
	}
	locked, err := s.conn.Object(secretsName, path).GetProperty(secretsBase + "Collection.Locked")
	if err != nil {
		return "", err
	}
	if is, _ := locked.Value().(bool); is {
		return "", errKeyringLocked
	}
	return path, nil
}

// keyringSet writes the entry.
func keyringSet(ctx context.Context, bus, value string) error {
	s, err := openSecrets(ctx, bus)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	collection, err := s.collection()
	if err != nil {
		return err
	}
	properties := map[string]dbus.Variant{
		secretsBase + "Item.Label":      dbus.MakeVariant("Key of " + keyringService + "'s token store"),
		secretsBase + "Item.Attributes": dbus.MakeVariant(attributes()),
	}
	entry := secret{Session: s.session, Value: []byte(value), ContentType: "text/plain"}
	var item, prompt dbus.ObjectPath
	if err := s.call(collection, "Collection.CreateItem", properties, entry, true).Store(&item, &prompt); err != nil {
		return err
	}
	if prompt != "/" {
		return errKeyringLocked // it would ask the person for a password
	}
	return nil
}

package sshtunnel

import (
	"errors"

	"sallyport/sshtunnel/mux"
)

// EncodeError makes the wire form of an error. hops are the aliases that the error may name.
func EncodeError(err error, hops []string) *mux.Error {
	if err == nil {
		return nil
	}
	return &mux.Error{Text: err.Error()}
}

// DecodeError makes an error of its wire form. hops are the aliases of the chain here.
func DecodeError(e *mux.Error, hops []string) error {
	if e == nil {
		return nil
	}
	return errors.New(e.Error())
}

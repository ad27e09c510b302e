// Package tokenstore keeps small secret values between runs: named, encrypted, and locked among all
// processes that use the same directory. It knows nothing of what the values mean.
//
// # Files
//
// A [Store] uses two directories, so that a copy of one alone says nothing. The first holds the
// values, one file each. The second holds the key. Both must belong to the user, and nobody else
// may write to them; what is in them is made with mode 0600.
//
//	DIR/HASH-HASH.sealed         a value
//	DIR/HASH-HASH.sealed.bad     a value that could not be read, set aside
//	DIR/HASH-HASH.sealed.lock    the lock of a name; empty
//	KEYDIR/store.key             the key: 32 bytes, for AES-256
//	KEYDIR/store.keyring         the ID of the key that lies in the system's keyring; 8 bytes
//	KEYDIR/store.key.lock        held while a process looks for the key
//
// A value's name is GROUP or GROUP/REST. Its file's name is made of two hashes, that of the group
// and that of the rest, which may be empty. Each is the first 12 bytes of a SHA-256, in
// hexadecimal. So all files of a group can be found, and nothing is named in clear: [Store.Forget]
// removes GROUP and all of GROUP/REST.
//
// A .sealed file holds, one after the other: the text "sallyport2\n", the 8 bytes of the key's ID,
// a nonce of 12 bytes, and the value sealed by AES-256-GCM. The file's name is the additional data,
// so that a file that was renamed cannot be read. A key's ID is the first 8 bytes of the SHA-256 of
// "sallyport key ID " and the key.
//
// A file is replaced by writing a temporary one beside it (.tmp-NUMBER), syncing it, and renaming
// it. A reader finds the old value or the new one, also after a crash. Temporary files that a
// crashed process left are removed after an hour.
//
// # Trouble with the disk
//
// Trouble with the disk is never fatal. A value that cannot be written stays in memory, and
// [Store.Unsaved] says why. A damaged file is set aside, and [Store.Load] returns the reason. If
// the key is lost, all files are set aside. A file that was sealed with the key of another
// configuration directory is neither used nor replaced. A directory that others can write to, or a
// file that others can read, is not used. If that is the directory or the key, the whole store
// lives in memory.
//
// # The key and the keyring
//
// [Keyring.Use] says where the key may lie: in the file, in the system's keyring, or (KeyAuto) in
// the keyring if that answers. A keyring that answers and has no key is given the file's key, and
// the file is removed. A program that is started with a keyring and later without one comes to have
// two keys. Then the file's key seals, because both kinds of start can read it, and values that the
// other key sealed are read while the keyring answers. The file store.keyring remembers that a key
// lies in the keyring, so that what it sealed does not count as lost while the keyring is away.
//
// The keyring is asked once for each [Open], in the background where possible. Only a value that
// needs its answer waits: [Store.Pending] says whether it must, and [Store.Await] waits.
//
// # Locks
//
// A [Lock] is the kernel's lock on an empty file. Whoever changes a value that others change too
// takes the lock of its name first, and loads the value again under the lock.
package tokenstore

// SPDX-License-Identifier: Apache-2.0

package sqlite

import "github.com/sallyport-mfa/sallyport/verifier/store"

// AppliedPolicies implements store.Reader.
func (r readerTx) AppliedPolicies(integrationKey string) (store.AppliedPolicies, error) {
	return through(r.cache, r.epoch, "policies "+integrationKey, func() (store.AppliedPolicies, error) {
		return r.Tx.AppliedPolicies(integrationKey)
	})
}

// Every change of groups and policies begins another version, which stands with
// the applied policies.

// AddGroup implements store.Writer.
func (w writerTx) AddGroup(g store.Group) error {
	*w.touched = true
	return w.Tx.AddGroup(g)
}

// SetGroup implements store.Writer.
func (w writerTx) SetGroup(g store.Group) error {
	*w.touched = true
	return w.Tx.SetGroup(g)
}

// DeleteGroup implements store.Writer.
func (w writerTx) DeleteGroup(id string) error {
	*w.touched = true
	return w.Tx.DeleteGroup(id)
}

// AddGroupUser implements store.Writer.
func (w writerTx) AddGroupUser(groupID, userID string) error {
	*w.touched = true
	return w.Tx.AddGroupUser(groupID, userID)
}

// RemoveGroupUser implements store.Writer.
func (w writerTx) RemoveGroupUser(groupID, userID string) error {
	*w.touched = true
	return w.Tx.RemoveGroupUser(groupID, userID)
}

// AddPolicy implements store.Writer.
func (w writerTx) AddPolicy(p store.Policy) error {
	*w.touched = true
	return w.Tx.AddPolicy(p)
}

// SetPolicy implements store.Writer.
func (w writerTx) SetPolicy(p store.Policy) error {
	*w.touched = true
	return w.Tx.SetPolicy(p)
}

// DeletePolicy implements store.Writer.
func (w writerTx) DeletePolicy(id string) error {
	*w.touched = true
	return w.Tx.DeletePolicy(id)
}

// PutPolicy implements store.Writer.
func (w writerTx) PutPolicy(u store.PolicyUse) error {
	*w.touched = true
	return w.Tx.PutPolicy(u)
}

// TakePolicy implements store.Writer.
func (w writerTx) TakePolicy(u store.PolicyUse) (bool, error) {
	*w.touched = true
	return w.Tx.TakePolicy(u)
}

// OrderPolicies implements store.Writer.
func (w writerTx) OrderPolicies(integrationKey string, groupIDs []string) error {
	*w.touched = true
	return w.Tx.OrderPolicies(integrationKey, groupIDs)
}

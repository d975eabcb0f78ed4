// SPDX-License-Identifier: Apache-2.0

package conversation_test

import "runtime"

// lockThread gives the goroutine a thread that ends with it.
func lockThread() { runtime.LockOSThread() }

// SPDX-License-Identifier: Apache-2.0

package doctor

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
*/
import "C"

import (
	"errors"
	"runtime"
	"unsafe"
)

// Load opens a shared object with all its symbols resolved, as libpam does, and
// closes it. Its initialisers run in this process.
func Load(path string) error {
	// dlerror speaks of the calling thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	handle := C.dlopen(name, C.RTLD_NOW|C.RTLD_LOCAL)
	if handle == nil {
		return errors.New(C.GoString(C.dlerror()))
	}
	C.dlclose(handle)
	return nil
}

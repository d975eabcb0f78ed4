// SPDX-License-Identifier: Apache-2.0

package pam

// #include <stdbool.h>
// #include <stdint.h>
// #include <sys/types.h>
import "C"

import (
	"runtime/cgo"
	"unsafe"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

const askFailed = -1 // CLIENT_ASK_FAILED

//export sallyportShow
func sallyportShow(handle C.uintptr_t, style C.int, text *C.char) {
	if conv, ok := cgo.Handle(handle).Value().(Conversation); ok {
		conv.Show(frames.Style(style), C.GoString(text))
	}
}

//export sallyportAsk
func sallyportAsk(handle C.uintptr_t, echo C.bool, text, answer *C.char, size C.size_t) C.ssize_t {
	conv, ok := cgo.Handle(handle).Value().(Conversation)
	if !ok {
		return askFailed
	}
	typed, err := conv.Ask(bool(echo), C.GoString(text))
	if err != nil {
		return askFailed
	}
	if len(typed) <= int(size) {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(answer)), size), typed)
	}
	return C.ssize_t(len(typed))
}

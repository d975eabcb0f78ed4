// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sallyport-mfa/sallyport/internal/match"
)

// Factors are the factors that a rule may name.
var Factors = []string{"push", "passcode", "phone", "sms"}

// FailModes are the fail modes that a rule may name.
var FailModes = []string{"secure", "open", "offline"}

func (o *Options) check(a Action) []error {
	var errs []error
	given := o.Factors != nil || o.AutoPush != nil || o.Attempts != nil || o.FailMode != ""
	if given && a != Require && a != "" {
		errs = append(errs, fmt.Errorf("factors, autopush, attempts and fail_mode belong to a require rule, not to %q", a))
	}
	if o.Factors != nil {
		errs = append(errs, o.checkFactors()...)
	}
	if o.Attempts != nil && (*o.Attempts < 1 || *o.Attempts > 10) {
		errs = append(errs, fmt.Errorf("attempts is %d; it may be 1 to 10", *o.Attempts))
	}
	if o.FailMode != "" && !slices.Contains(FailModes, o.FailMode) {
		errs = append(errs, fmt.Errorf("fail_mode %q is none of %q", o.FailMode, FailModes))
	}
	return errs
}

func (o *Options) checkFactors() []error {
	var errs []error
	if len(o.Factors) == 0 {
		errs = append(errs, errors.New("factors is empty: no one could log in; write a deny rule if that is meant"))
	}
	for i, f := range o.Factors {
		if !slices.Contains(Factors, f) {
			errs = append(errs, fmt.Errorf("factors: %q is none of %q", f, Factors))
		}
		if slices.Contains(o.Factors[:i], f) {
			errs = append(errs, fmt.Errorf("factors: %q stands there twice", f))
		}
	}
	if slices.Contains(o.Factors, "sms") && !slices.Contains(o.Factors, "passcode") {
		errs = append(errs, errors.New(`factors: a code sent by "sms" is typed as a passcode, and a passcode may be of any token: name "passcode" as well`))
	}
	if o.FailMode == "offline" && len(o.Factors) > 0 && !slices.Contains(o.Factors, "passcode") {
		errs = append(errs, errors.New(`fail_mode "offline" takes offline codes, which are passcodes: name "passcode" among factors as well`))
	}
	if o.AutoPush != nil && *o.AutoPush && len(o.Factors) > 0 && !slices.Contains(o.Factors, "push") {
		errs = append(errs, errors.New(`autopush needs "push" among factors`))
	}
	return errs
}

// Fits says whether a list of names and patterns, as a rule has it, holds for one
// name. The empty list holds.
func Fits(written []string, name string) bool { return match.Fits(written, name) }

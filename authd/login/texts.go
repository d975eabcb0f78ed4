// SPDX-License-Identifier: Apache-2.0

package login

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// All that a person reads at a prompt stands in this file, and nowhere else in
// the package, so that it reads as one voice. What comes from another party goes
// through printable before it comes here.

// Ends of a login.

func textDenied() string     { return "Access denied." }
func textRuleDenied() string { return "This login is not permitted." }
func textNotSelf() string    { return "You can authenticate yourself only." }
func textTooLate() string    { return "This login took too long. Please try again." }
func textRestarting() string {
	return "The login service of this host is restarting. Please try again."
}
func textNSSFailed() string    { return "The name service of this host does not answer." }
func textNoneAsked() string    { return "This login needs a second factor, and none was asked for." }
func textTooManyAsked() string { return "Too many questions. Please log in again." }

func textNoLoginUID() string {
	return "It is not known who logged in here, so no second factor can be asked for."
}

func textNoName(contact string) string {
	return "Your account has no name at the verifier. Please ask " + contact + "."
}

func textDirectoryAway(contact string) string {
	return "The directory of this organisation does not answer. Please try again, or ask " + contact + "."
}

func textNoFirstFactor() string {
	return "This login has no first factor: sshd must ask for a key or password first."
}

func textNoMethod(contact string) string {
	return "This login takes a second factor that you do not have. Please ask " + contact + "."
}

func textNotEnrolled(contact string) string {
	return "You have no second factor for this host yet. Please ask " + contact + "."
}

func textVerifierDown(contact string) string {
	return "The second factor cannot be checked at the moment. Please try again, or ask " + contact + "."
}

func textVerifierLost(contact string) string {
	return "The second factor could not be checked. Please try again, or ask " + contact + "."
}

func textVerifierRefused(contact string) string {
	return "The verifier refused this host. Please ask " + contact + "."
}

func textTooBusy(contact string) string {
	return "The verifier is too busy. Please try again later, or ask " + contact + "."
}

func textVerifierBusy(wait time.Duration) string {
	return fmt.Sprintf("The verifier is busy. Trying again in %d seconds ...", wait/time.Second)
}

// textToRead is a refusal as a question, where a message would not be shown.
func textToRead(refusal string) string {
	return refusal + "\n\nPress Enter to end this login. "
}

// What went wrong with a factor.

func textWrongPasscode() string  { return "Incorrect passcode." }
func textRequestDenied() string  { return "Login request denied." }
func textRequestNotSent() string { return "The request could not be sent." }
func textSMSNotSent() string     { return "The SMS could not be sent." }
func textSMSSent() string        { return "New SMS passcodes sent." }
func textNobodyAnswered() string { return "Nobody answered the request in time." }
func textNoPasscode() string     { return "Passcodes are not accepted for this login." }
func textNothingEntered(m menu) string {
	if m.noPasscode {
		return "Please enter one of the options."
	}
	return "Please enter a passcode or one of the options."
}
func textNoSuchOption(n int) string {
	return "There is no option " + strconv.Itoa(n) + "."
}
func textNoSuchDevice() string  { return "You have no device for that." }
func textNotUnderstood() string { return "That is neither an option nor a passcode." }
func textTooLong() string       { return "That is too long for a passcode." }
func textDigitsHere() string    { return "Type these digits on your phone, not here." }
func textOfVariable(name, problem string) string {
	return name + ": " + problem
}

// textFailed is why an attempt failed, and how many are left.
func textFailed(reason string, left int) string {
	// The number that follows says it better.
	reason = strings.TrimSuffix(reason, " Please try again.")
	switch {
	case left <= 0:
		return reason
	case left == 1:
		return reason + " 1 attempt left."
	}
	return fmt.Sprintf("%s %d attempts left.", reason, left)
}

// textSlowedDown says why nothing happens for a while.
func textSlowedDown(d time.Duration) string {
	seconds := int((d + time.Second - 1) / time.Second)
	if seconds == 1 {
		return "There were failed attempts before. Please wait 1 second."
	}
	return fmt.Sprintf("There were failed attempts before. Please wait %d seconds.", seconds)
}

// Offline codes.

func textOfflineForm() string { return "An offline code has 8 digits." }

func textOfflineNotEnrolled(contact string) string {
	return "No verifier answers, and you have no offline code for this host. Please ask " + contact + "."
}

// textOfflineWrong names the numbers that this host takes, since a code of a
// number beyond them is right and refused all the same.
func textOfflineWrong(from, to int64) string {
	return fmt.Sprintf("That is not an offline code of this host with a number from %d to %d.", from, to)
}

func textOfflineReplayed(from int64) string {
	return fmt.Sprintf("That code was used before, or one after it. This host takes number %d and later.", from)
}

func textOfflineWait(d time.Duration) string {
	return fmt.Sprintf("That was too soon after a wrong code. Please wait %d seconds.", int((d+time.Second-1)/time.Second))
}

func textOfflineUsedUp(contact string) string {
	return "All offline codes for this host are used, until a verifier answers again. Please ask " + contact + "."
}

func textOfflineExpired(until time.Time, contact string) string {
	return "Offline codes for this host were good until " + textDay(until) + ". Please ask " + contact + "."
}

func textOfflineClock(contact string) string {
	return "The clock of this host was set back, so offline codes cannot be checked. Please ask " + contact + "."
}

func textOfflineLocked(contact string) string {
	return "There were too many wrong offline codes. Until a verifier answers again, please ask " + contact + "."
}

func textNotRecorded(contact string) string {
	return "This host cannot write down your login, so it is refused. Please ask " + contact + "."
}

// textOfflineLeft follows a success.
func textOfflineLeft(left int, until time.Time) string {
	switch left {
	case 0:
		return "That was the last offline code for this host until a verifier answers again."
	case 1:
		return "1 offline code is left for this host, until " + textDay(until) + "."
	}
	return fmt.Sprintf("%d offline codes are left for this host, until %s.", left, textDay(until))
}

func textDay(t time.Time) string { return t.Format("2 January 15:04") }

// textOffline is the question for an offline code. It names the host as the
// authenticator does.
func textOffline(label, note string, glass bool) string {
	if note != "" {
		note += "\n\n"
	}
	or, name := "", "Offline code: "
	if glass {
		or, name = " A break-glass code (bg-...) of this host is taken too.", "Code: "
	}
	return note + "No verifier answers. Enter an offline code of this host, " + label + "." + or + "\n\n" + name
}

// Break-glass codes.

// textBreakGlass is the question for a break-glass code.
func textBreakGlass(host, note string) string {
	if note != "" {
		note += "\n\n"
	}
	return note + "The second factor cannot be checked at the moment: no verifier answers.\n" +
		"Enter a break-glass code for " + host + ", or nothing to give up: "
}

func textNoBreakGlass() string { return "That code is not right." }

// Questions and progress.

// textMenu is the question for a factor. note is what must be read with it.
func textMenu(m menu, person, note string) string {
	var b strings.Builder
	if note != "" {
		b.WriteString(note + "\n\n")
	}
	fmt.Fprintf(&b, "Sallyport login for %s\n\n", person)
	if len(m.options) == 0 {
		b.WriteString("Passcode: ")
		return b.String()
	}
	if m.noPasscode {
		b.WriteString("Select one of the following options:\n\n")
	} else {
		b.WriteString("Enter a passcode or select one of the following options:\n\n")
	}
	for i, o := range m.options {
		fmt.Fprintf(&b, " %d. %s", i+1, textOption(o))
		if m.several(o.factor) {
			fmt.Fprintf(&b, " [%s]", o.name())
		}
		b.WriteByte('\n')
	}
	if m.noPasscode {
		fmt.Fprintf(&b, "\nOption (%s): ", textSpan(len(m.options)))
		return b.String()
	}
	fmt.Fprintf(&b, "\nPasscode or option (%s): ", textSpan(len(m.options)))
	return b.String()
}

// textSpan is the numbers of n options.
func textSpan(n int) string {
	if n <= 1 {
		return "1"
	}
	return fmt.Sprintf("1-%d", n)
}

func textOption(c choice) string {
	device := deviceName(c.device)
	switch c.factor {
	case duoapi.FactorPush:
		return "Push to " + device
	case duoapi.FactorPhone:
		return "Phone call to " + device
	}
	label := "SMS passcodes to " + device
	if next := printable(c.device.SMSNextCode, 8); next != "" {
		label += " (next code starts with: " + next + ")"
	}
	return label
}

// textDevice stands for a device without a name.
func textDevice() string { return "your device" }

// textStarted says that a request is on its way and nothing need be typed.
func textStarted(c choice) string {
	if c.factor == duoapi.FactorPhone {
		return "Calling " + deviceName(c.device) + " ..."
	}
	return "Pushed a login request to " + deviceName(c.device) + ". Waiting for the answer ..."
}

// textDigits is the question of a verified push: it shows the digits that are to
// be typed on the device.
func textDigits(m menu, c choice, digits string, notes ...string) string {
	var b strings.Builder
	for _, note := range notes {
		if note != "" {
			b.WriteString(note + "\n\n")
		}
	}
	fmt.Fprintf(&b, "Pushed a login request to %s.\n\n", deviceName(c.device))
	fmt.Fprintf(&b, "    Type this code there: %s\n\n", digits)
	if m.noPasscode {
		fmt.Fprintf(&b, "Then press Enter here. Or enter another option (%s): ", textSpan(len(m.options)))
		return b.String()
	}
	fmt.Fprintf(&b, "Then press Enter here. Or enter a passcode, or another option (%s): ", textSpan(len(m.options)))
	return b.String()
}

// textDigitsOnly is textDigits where nothing can be typed.
func textDigitsOnly(c choice, digits string) string {
	return fmt.Sprintf("Pushed a login request to %s.\n\n    Type this code there: %s\n\nWaiting for the answer ...", deviceName(c.device), digits)
}

// textNothingToHoldFor is for a login in which nobody can type.
func textNothingToHoldFor(contact string) string {
	return "Nothing can be typed at this login, and you have no device for a push or a phone call. Please ask " + contact + "."
}

// textRemember asks whether a login is to be remembered.
func textRemember(d time.Duration) string {
	return "Remember this login for sudo and su for " + textLength(d) + "? [y/N] "
}

// textLength is a length of time in its largest whole unit.
func textLength(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, " day"}, {time.Hour, " hour"}, {time.Minute, " minute"}} {
		if d >= u.unit && d%u.unit == 0 {
			return textCount(int(d/u.unit), u.name)
		}
	}
	return textCount(int(d/time.Second), " second")
}

func textCount(n int, name string) string {
	if n == 1 {
		return "1" + name
	}
	return strconv.Itoa(n) + name + "s"
}

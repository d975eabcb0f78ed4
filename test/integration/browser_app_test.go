// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"slices"
	"strings"
	"testing"
)

// Activated by a link, the app approves a login with the digits that the login
// shows. The link is then used up.
func TestAppApproves(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	p := s.person(t, "app")
	w := s.newWebPhone(t, p, "phone of "+p.name)
	link, _ := s.activationLink(t, p.name, w.name)
	w.activate(link)
	if url := w.tab.URL(); strings.Contains(url, "sa1") {
		t.Errorf("the code of the link stays in the address: %s", url)
	}
	w.tab.Follow("Go to requests")
	w.connected()

	for _, d := range doors {
		v := d.knock(t, p)
		digits := v.asksForPush()
		w.asked()
		for _, fact := range []string{p.name, s.host.Name} {
			w.tab.See(fact)
		}
		w.approves(digits)
		w.tab.Hear("Approved")
		v.types("")
		v.comesIn()
		p.lastEvent(t, event{Result: "success", Reason: "user_approved"})
		w.tab.Press("Done")
	}

	second := s.newWebPhone(t, p, "another phone")
	second.tab.Go(link)
	second.tab.Press("Activate")
	second.tab.Hear("This link has been used")
}

// Wrong digits approve nothing; they can be corrected, and the third wrong ones end
// the request.
func TestAppWrongDigits(t *testing.T) {
	t.Parallel()
	p := webTown(t).person(t, "appdigits")
	w := p.webPhone(t)
	v := p.ssh(t, p.site.client, "22")
	digits := v.asksForPush()
	w.approves(otherDigits(digits))
	w.tab.Hear("The digits are wrong")
	w.approves(digits)
	w.tab.Hear("Approved")
	v.types("")
	v.comesIn()
	w.tab.Press("Done")
	if reasons := p.refusals(t); !slices.Equal(reasons, []string{"wrong_digits"}) {
		t.Errorf("refused answers in the administrator log: %q", reasons)
	}

	v = p.ssh(t, p.site.client, "22")
	digits = v.asksForPush()
	v.types("")
	w.asked()
	for _, left := range []string{"2 tries are left", "One try is left", "refused"} {
		w.tab.Forget()
		w.approves(otherDigits(digits))
		w.tab.Hear(left)
	}
	v.isTurnedDown()
	p.lastEvent(t, event{Result: "denied", Reason: "invalid_passcode"})
}

// Denied by mistake: the login is refused, the person is not locked. "It was not me":
// the person is locked and the event says so.
func TestAppDenies(t *testing.T) {
	t.Parallel()
	p := webTown(t).person(t, "appdenies")
	w := p.webPhone(t)
	v := p.ssh(t, p.site.client, "22")
	v.asksForPush()
	v.types("")
	w.denies("By mistake")
	w.tab.Hear("Denied")
	v.isTurnedDown()
	p.lastEvent(t, event{Result: "denied", Reason: "user_mistake"})
	if status := p.status(t); status != "active" {
		t.Errorf("the person is %s after a mistake", status)
	}
	w.tab.Press("Done")

	v = p.ssh(t, p.site.client, "22")
	v.asksForPush()
	v.types("")
	w.denies("It was not me")
	w.tab.Hear("Denied and reported")
	v.isTurnedDown()
	p.lastEvent(t, event{Result: "fraud", Reason: "user_marked_fraud"})
	if status := p.status(t); status != "locked out" {
		t.Errorf("the person is %q after a reported fraud", status)
	}
}

// While a request waits the person can move through the app, whose other views lead
// back to it; one that comes meanwhile takes nobody away from what they do.
func TestAppLeadsToRequests(t *testing.T) {
	t.Parallel()
	p := webTown(t).person(t, "appviews")
	w := p.webPhone(t)
	w.tab.Follow("Codes")
	w.tab.AwaitTrue("the codes", `document.querySelector('main').dataset.view === 'codes'`)
	v := p.ssh(t, p.site.client, "22")
	digits := v.asksForPush()
	w.tab.Hear("A login asks for your answer")
	w.tab.Find("link", "Show the request")
	w.tab.Follow("Devices")
	w.tab.See("This device")
	if w.tab.Has("button", "Approve") {
		t.Error("the request is shown in another view")
	}
	w.tab.Follow("Show the request")
	w.asked()
	if w.tab.Has("link", "Show the request") {
		t.Error("the request's own view leads to it")
	}
	w.approves(digits)
	w.tab.Hear("Approved")
	v.types("")
	v.comesIn()
	w.tab.Follow("Codes")
	w.tab.AwaitTrue("the codes without the notice", `document.querySelector('main').dataset.view === 'codes' && document.getElementById('asks').hidden`)
}

// The same request in two tabs: one answer counts, and the other tab says that it is
// over.
func TestAppTwoTabs(t *testing.T) {
	t.Parallel()
	p := webTown(t).person(t, "apptabs")
	w := p.webPhone(t)
	second := *w
	second.tab = w.browser.Tab()
	second.tab.Go(webURL + "/app/")
	second.connected()
	v := p.ssh(t, p.site.client, "22")
	digits := v.asksForPush()
	w.asked()
	second.asked()
	w.approves(digits)
	w.tab.Hear("Approved")
	second.tab.Await("the other tab to say that it is over", func() bool {
		heard := strings.Join(second.tab.Heard(), "\n")
		return strings.Contains(heard, "Approved") || strings.Contains(heard, "No longer open")
	})
	if second.tab.Has("button", "Approve") {
		t.Error("the other tab still offers to approve")
	}
	v.types("")
	v.comesIn()
}

// A login that ends while the phone has no network: the app says so when the network
// is back, and offers nothing any more.
func TestAppLoginEndsMeanwhile(t *testing.T) {
	t.Parallel()
	p := webTown(t).person(t, "appends")
	token := p.hotp(t)
	w := p.webPhone(t)
	v := p.ssh(t, p.site.client, "22")
	v.asksForPush()
	w.asked()
	w.network.Cut()
	w.tab.Offline(true)
	// The person uses a passcode instead, so the push is void.
	v.types(token.next())
	v.comesIn()
	w.network.Mend()
	w.tab.Offline(false)
	w.tab.Await("the end of the request", func() bool {
		heard := strings.Join(w.tab.Heard(), "\n")
		return strings.Contains(heard, "Called off") || strings.Contains(heard, "No longer open")
	})
	if w.tab.Has("button", "Approve") {
		t.Error("the app still offers to approve")
	}
}

// The network goes and comes back: the app says so, what is typed stays, and the
// login that waited meanwhile is approved.
func TestAppNetworkLost(t *testing.T) {
	t.Parallel()
	p := webTown(t).person(t, "applost")
	w := p.webPhone(t)
	w.network.Cut()
	w.tab.Offline(true)
	w.tab.AwaitTrue("the app to say that it is offline", `document.getElementById('connection')?.dataset.connection === 'offline'`)
	w.tab.See("Offline")

	v := p.ssh(t, p.site.client, "22")
	digits := v.asksForPush()
	w.network.Mend()
	w.tab.Offline(false)
	w.asked()
	w.tab.Fill("Digits shown at the login", digits)

	w.network.Cut()
	w.tab.Offline(true)
	w.tab.Press("Approve")
	w.tab.Hear("There is no network")
	if typed := w.tab.Value("Digits shown at the login"); strings.ReplaceAll(typed, " ", "") != digits {
		t.Errorf("the digits that were typed are gone: %q", typed)
	}
	w.network.Mend()
	w.tab.Offline(false)
	w.tab.Press("Approve")
	w.tab.Hear("Approved")
	v.types("")
	v.comesIn()
}

// With user verification the verifier takes an approval only after finger, face or
// PIN; to deny, nobody has to be recognised.
func TestAppUserVerification(t *testing.T) {
	t.Parallel()
	p := webTown(t).person(t, "appverifies")
	w := p.webPhone(t)
	platform := w.tab.Platform()
	w.tab.Follow("Settings")
	w.tab.Reload() // what the device can is found out when the view is made
	w.tab.Press("Turn on")
	w.tab.Hear("This device asks for finger, face or PIN")
	w.tab.Follow("Requests")

	v := p.ssh(t, p.site.client, "22")
	digits := v.asksForPush()
	platform.Recognises(false)
	w.approves(digits)
	w.tab.Hear("Finger, face or PIN was not given")
	platform.Recognises(true)
	w.tab.Press("Approve")
	w.tab.Hear("Approved")
	v.types("")
	v.comesIn()
	w.tab.Press("Done")

	platform.Recognises(false)
	v = p.ssh(t, p.site.client, "22")
	v.asksForPush()
	v.types("")
	w.denies("By mistake")
	w.tab.Hear("Denied")
	v.isTurnedDown()

	// A page that leaves the verification out is refused.
	platform.Recognises(true)
	w.tab.Press("Done")
	v = p.ssh(t, p.site.client, "22")
	digits = v.asksForPush()
	w.asked()
	w.tab.Run(`(() => {
		const whole = JSON.stringify;
		JSON.stringify = (value, ...rest) => whole(value?.answer ? {answer: value.answer} : value, ...rest);
		return true;
	})()`, nil)
	w.approves(digits)
	eventually(t, "the refusal in the administrator log", func() bool {
		return slices.Contains(p.refusals(t), "verification_missing")
	})
	v.leaves()
	if approved := p.approvals(t); approved != 1 {
		t.Errorf("%d logins were approved, one of them with user verification: %+v", approved, p.events(t))
	}
}

// The answer to switching user verification on is lost: the verifier wants it then, and
// the app finds out how to give it.
func TestAppUserVerificationAnswerLost(t *testing.T) {
	t.Parallel()
	p := webTown(t).person(t, "appverifylost")
	w := p.webPhone(t)
	w.tab.Platform()
	w.tab.Follow("Settings")
	w.tab.Reload() // what the device can is found out when the view is made
	w.tab.Run(`(() => {
		const send = window.fetch;
		window.fetch = async (address, ...rest) => {
			const answer = await send(address, ...rest);
			if (String(address).endsWith('/user_verification/finish')) throw new TypeError('lost');
			return answer;
		};
		return true;
	})()`, nil)
	w.tab.Press("Turn on")
	w.tab.See("That did not work")
	w.tab.Press("Close")
	w.tab.See("This device asks for finger, face or PIN")
	w.tab.Follow("Requests")

	v := p.ssh(t, p.site.client, "22")
	w.approves(v.asksForPush())
	w.tab.Hear("Approved")
	v.types("")
	v.comesIn()
}

// Moved to a new phone: it answers from then on, and the old key is dead.
func TestAppMoves(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	p := s.person(t, "appmoves")
	old := p.webPhone(t)
	old.tab.Follow("Devices")
	// What the app copies goes into the clipboard, which no page of the site may read.
	old.tab.Run(`navigator.clipboard.writeText = async (text) => { window.copied = text }, true`, nil)
	old.tab.Press("Move to a new phone")
	old.tab.Press("Make the link")
	old.tab.Press("Copy the link")
	var link string
	old.tab.Await("the link", func() bool { return old.tab.TryRun(`window.copied ?? ''`, &link) == nil && link != "" })

	fresh := s.newWebPhone(t, p, "new phone of "+p.name)
	fresh.activate(link)
	fresh.tab.Follow("Go to requests")
	fresh.connected()
	old.tab.Follow("Requests")
	old.tab.See("no longer knows this device")

	v := p.ssh(t, s.client, "22")
	digits := v.asksForPush()
	fresh.approves(digits)
	fresh.tab.Hear("Approved")
	v.types("")
	v.comesIn()
	if old.tab.Has("button", "Approve") {
		t.Error("the old phone was asked")
	}
}

// A device that is removed from another one answers nothing any more.
func TestAppRemovesDevice(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	p := s.person(t, "appremoves")
	kept := p.webPhone(t)
	lost := p.webPhone(t)
	lost.name = "lost phone"
	kept.tab.Follow("Devices")
	// Both have one name; the one that is marked as this device stays.
	kept.tab.AwaitTrue("both devices", `document.querySelectorAll('[data-device]').length === 2`)
	kept.tab.Run(`[...document.querySelectorAll('[data-device]')].find((d) => !d.querySelector('.badge')).querySelectorAll('button')[1].click(), true`, nil)
	kept.tab.Press("Remove")
	kept.tab.Hear("is removed")
	lost.tab.See("no longer knows this device")
	kept.tab.AwaitTrue("one device", `document.querySelectorAll('[data-device]').length === 1`)
}

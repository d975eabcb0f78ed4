/* SPDX-License-Identifier: Apache-2.0 */

#include "frame.h"

#include <string.h>

#define BIT(tag) (1u << (tag))

static uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void set_u32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static bool is_known(uint8_t tag)
{
	return (tag >= TAG_HOOK && tag <= TAG_PROC_ENV) || (tag >= TAG_TEXT && tag <= TAG_TOO_LONG);
}

/* The fields that a frame from the daemon has, all of them needed. 0: no such type. */
static uint32_t fields_of(uint8_t type)
{
	switch (type) {
	case FRAME_SHOW:
		return BIT(TAG_TEXT) | BIT(TAG_STYLE);
	case FRAME_ASK:
	case FRAME_ASK_SECRET:
		return BIT(TAG_TEXT);
	case FRAME_WAIT:
		return BIT(TAG_MILLIS);
	case FRAME_DONE:
		return BIT(TAG_OUTCOME);
	default:
		return 0;
	}
}

ssize_t frame_header(const uint8_t header[FRAME_HEADER_SIZE])
{
	uint32_t len = get_u32(header + 4);

	if (header[0] != FRAME_MAGIC0 || header[1] != FRAME_MAGIC1 || header[2] != FRAME_VERSION)
		return -1;
	if (fields_of(header[3]) == 0 || len > FRAME_PAYLOAD_MAX)
		return -1;
	return (ssize_t)len;
}

static bool parse_field(struct frame *out, uint8_t tag, uint8_t *value, size_t len)
{
	switch (tag) {
	case TAG_TEXT:
		out->text = (char *)value;
		return len <= FRAME_TEXT_MAX && memchr(value, 0, len) == NULL;
	case TAG_STYLE:
		out->style = len == 1 ? value[0] : 0;
		return out->style == STYLE_INFO || out->style == STYLE_ERROR;
	case TAG_MILLIS:
		out->millis = len == 4 ? get_u32(value) : 0;
		return len == 4;
	case TAG_OUTCOME:
		out->outcome = len == 1 ? value[0] : 0;
		return out->outcome >= OUTCOME_ALLOW && out->outcome <= OUTCOME_ABORTED;
	default:
		return false;
	}
}

bool frame_parse(struct frame_buffer *b, struct frame *out)
{
	uint8_t *p = b->bytes + FRAME_HEADER_SIZE, *end = b->bytes + b->len, *text_end = NULL;
	uint32_t wanted = fields_of(b->bytes[3]), seen = 0;

	memset(out, 0, sizeof *out);
	out->type = b->bytes[3];
	while (p < end) {
		uint8_t tag = p[0], *value = p + 3;
		size_t len;

		if (end - p < 3)
			return false;
		len = (size_t)p[1] << 8 | p[2];
		if ((size_t)(end - value) < len)
			return false;
		p = value + len;
		if (!is_known(tag))
			continue;
		if (!(wanted & BIT(tag)) || (seen & BIT(tag)) || !parse_field(out, tag, value, len))
			return false;
		seen |= BIT(tag);
		if (tag == TAG_TEXT)
			text_end = p;
	}
	if (seen != wanted)
		return false;
	if (text_end != NULL)
		*text_end = 0; /* overwrites a tag that has been read, or the byte behind the frame */
	return true;
}

static void begin(struct frame_buffer *b, enum frame_type type)
{
	const uint8_t header[] = { FRAME_MAGIC0, FRAME_MAGIC1, FRAME_VERSION, (uint8_t)type, 0, 0, 0, 0 };

	memcpy(b->bytes, header, sizeof header);
	b->len = sizeof header;
}

/* put adds a field whose value is head and body together. */
static bool put(struct frame_buffer *b, uint8_t tag, const void *head, size_t head_len,
		const void *body, size_t body_len)
{
	size_t len = head_len + body_len, room = FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX - b->len;
	uint8_t *p = b->bytes + b->len;

	if (room < 3 || len > room - 3)
		return false;
	p[0] = tag;
	p[1] = (uint8_t)(len >> 8);
	p[2] = (uint8_t)len;
	memcpy(p + 3, head, head_len);
	memcpy(p + 3 + head_len, body, body_len);
	b->len += 3 + len;
	set_u32(b->bytes + 4, (uint32_t)b->len - FRAME_HEADER_SIZE);
	return true;
}

static bool put_string(struct frame_buffer *b, uint8_t tag, const char *s, bool needed)
{
	size_t len = s == NULL ? 0 : strnlen(s, FRAME_NAME_MAX + 1);

	if (len == 0)
		return !needed;
	return len <= FRAME_NAME_MAX && put(b, tag, s, len, "", 0);
}

static bool put_env(struct frame_buffer *b, const struct frame_env *e)
{
	size_t max = e->tag == TAG_PAM_ENV ? FRAME_PAM_ENV_MAX : FRAME_PROC_ENV_MAX, name_len, value_len;
	char name[64];

	if (e->value == NULL)
		return true;
	name_len = strnlen(e->name, sizeof name - 1);
	memcpy(name, e->name, name_len);
	name[name_len++] = '=';
	value_len = strnlen(e->value, max);
	return name_len + value_len <= max && put(b, (uint8_t)e->tag, name, name_len, e->value, value_len);
}

const char *frame_put_request(struct frame_buffer *b, const struct frame_request *r)
{
	const struct {
		uint8_t tag;
		bool needed;
		const char *value, *name;
	} strings[] = {
		{ TAG_VERSION, true, r->version, "version" },
		{ TAG_SERVICE, true, r->service, "PAM_SERVICE" },
		{ TAG_USER, true, r->user, "PAM_USER" },
		{ TAG_TTY, false, r->tty, "PAM_TTY" },
		{ TAG_RHOST, false, r->rhost, "PAM_RHOST" },
		{ TAG_RUSER, false, r->ruser, "PAM_RUSER" },
	};
	uint8_t hook = (uint8_t)r->hook, flags[4], uids[8];

	set_u32(flags, r->flags);
	set_u32(uids, r->ruid);
	set_u32(uids + 4, r->euid);
	begin(b, FRAME_REQUEST);
	put(b, TAG_HOOK, &hook, sizeof hook, "", 0);
	put(b, TAG_FLAGS, flags, sizeof flags, "", 0);
	put(b, TAG_UIDS, uids, sizeof uids, "", 0);
	for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
		if (!put_string(b, strings[i].tag, strings[i].value, strings[i].needed))
			return strings[i].name;
	for (size_t i = 0; i < FRAME_ENV_COUNT; i++)
		if (!put_env(b, &r->env[i]))
			return r->env[i].name;
	return NULL;
}

void frame_put_answer(struct frame_buffer *b, const char *answer, size_t len)
{
	begin(b, FRAME_ANSWER);
	if (len > FRAME_ANSWER_MAX)
		put(b, TAG_TOO_LONG, "", 0, "", 0);
	else
		put(b, TAG_TEXT, answer, len, "", 0);
}

void frame_put_abort(struct frame_buffer *b, enum frame_reason reason)
{
	uint8_t value = (uint8_t)reason;

	begin(b, FRAME_ABORT);
	put(b, TAG_REASON, &value, sizeof value, "", 0);
}

/* The length of the well-formed UTF-8 sequence at s, 0 if there is none. s ends with
 * NUL, which is no continuation byte. */
static size_t utf8_sequence(const uint8_t *s)
{
	static const struct { /* Unicode, table 3-7 */
		uint8_t first, last, second_low, second_high, len;
	} rows[] = {
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};
	size_t row = 0, len = 2;

	if (s[0] < 0x80)
		return 1;
	while (row < sizeof rows / sizeof *rows && (s[0] < rows[row].first || s[0] > rows[row].last))
		row++;
	if (row == sizeof rows / sizeof *rows || s[1] < rows[row].second_low || s[1] > rows[row].second_high)
		return 0;
	while (len < rows[row].len && (s[len] & 0xc0) == 0x80)
		len++;
	return len == rows[row].len ? len : 0;
}

static bool is_control(const uint8_t *s, size_t len)
{
	if (len == 1)
		return (s[0] < 0x20 && s[0] != '\n' && s[0] != '\t') || s[0] == 0x7f;
	return len == 2 && s[0] == 0xc2 && s[1] < 0xa0; /* C1: CSI among them */
}

void frame_clean(char *text)
{
	const uint8_t *in = (const uint8_t *)text;
	uint8_t *out = (uint8_t *)text;

	while (*in != 0) {
		size_t len = utf8_sequence(in);

		if (len == 0 || is_control(in, len)) {
			in += len == 0 ? 1 : len;
			*out++ = '?';
			continue;
		}
		memmove(out, in, len);
		in += len;
		out += len;
	}
	*out = 0;
}

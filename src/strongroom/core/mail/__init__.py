"""Mail: a message goes to an SMTP server, or lies in a folder as `.eml`.

Promises: `send` returns only when the server has taken the message, or the file is on the disk;
what is worth another try is MailNotTaken, what is not is MailRefused; a password never travels
in the clear. Delivery is at least once: a connection that breaks after the last byte leaves open
whether the mail was taken, and the next try has the same Message-ID. Does not write mails, and is
never to be called while a transaction is open.
"""

from strongroom.core.mail.mailer import BadMailSettings, Mailer, MailNotTaken, MailRefused

__all__ = ["BadMailSettings", "MailNotTaken", "MailRefused", "Mailer"]

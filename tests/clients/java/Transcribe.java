import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Posts a recording with the JDK's HttpClient as it comes: over plain HTTP it offers an upgrade to HTTP/2 with the
 * POST. Prints the version that was spoken, the status and the body, a line each.
 *
 * <p>java Transcribe.java BASE_URL KEY FILE
 */
public class Transcribe {
    private static final String BOUNDARY = "java-client-boundary";

    public static void main(String[] arguments) throws IOException, InterruptedException {
        HttpRequest request =
                HttpRequest.newBuilder(URI.create(arguments[0] + "/audio/transcriptions"))
                        .header("Authorization", "Bearer " + arguments[1])
                        .header("Content-Type", "multipart/form-data; boundary=" + BOUNDARY)
                        .POST(HttpRequest.BodyPublishers.ofByteArray(form(Path.of(arguments[2]))))
                        .build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.version());
        System.out.println(answer.statusCode());
        System.out.println(answer.body());
    }

    private static byte[] form(Path file) throws IOException {
        ByteArrayOutputStream form = new ByteArrayOutputStream();
        form.writeBytes(part("name=\"model\"", "whisper-1".getBytes(StandardCharsets.UTF_8)));
        form.writeBytes(part("name=\"file\"; filename=\"" + file.getFileName() + "\"", Files.readAllBytes(file)));
        form.writeBytes(("--" + BOUNDARY + "--\r\n").getBytes(StandardCharsets.UTF_8));
        return form.toByteArray();
    }

    private static byte[] part(String disposition, byte[] content) {
        ByteArrayOutputStream part = new ByteArrayOutputStream();
        String head = "--" + BOUNDARY + "\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n";
        part.writeBytes(head.getBytes(StandardCharsets.UTF_8));
        part.writeBytes(content);
        part.writeBytes("\r\n".getBytes(StandardCharsets.UTF_8));
        return part.toByteArray();
    }
}
